import ArgumentParser
import Daemon
import Foundation
import Lending
import Node
import Primitives
import Telemetry
import Topologies

/// `atoll limits`: what a peer may have of this machine.
struct LimitsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "limits", abstract: "What a peer may have of this machine, and what keeps it from working.",
        subcommands: [Show.self, Change.self], defaultSubcommand: Show.self)

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "All limits, where each was given, and which of them bite.")
        @OptionGroup var choice: DaemonChoice
        @Flag(help: "One line of JSON for each peer (docs/STATUS.md).") var json = false

        func run() throws {
            var isFirst = true
            for found in try choice.ask(.status) {
                guard let status = found.answer.status, let limits = status.limits else { continue }
                if json {
                    print(found.json)
                } else {
                    if !isFirst { print("") }
                    print(escaped("Peer \(status.daemon.member?.name ?? "") lends:"))
                    let terminal = TerminalText.current
                    for value in limits.values {
                        for line in terminal.hanging(LimitText.head(value), LimitText.meaning(value)) { print(line) }
                    }
                    for line in LimitText.reasons(limits, hasJob: status.daemon.member?.job != nil) {
                        for part in terminal.wrapped(line, indent: 2) { print(part) }
                    }
                }
                isFirst = false
            }
            if isFirst { throw NodeError.failed("no peer here keeps to limits") }
        }
    }

    struct Change: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "set", abstract: "Give a limit another value, from now on; `default` takes it back.",
            discussion: LimitKey.allCases.map { "\($0.rawValue): \($0.meaning) (\($0.allowed))" }.joined(
                separator: "\n"))
        @OptionGroup var choice: DaemonChoice
        @Argument(help: "Which limit.") var key: String
        @Argument(help: "Its value.") var value: [String]

        func run() throws {
            guard LimitKey(rawValue: key) != nil else { throw NodeError.badInput(LimitFiles.unknown(key)) }
            let value = value.joined(separator: " ")
            guard let folder = try choice.sleeping() else {
                let answer = try choice.one(.init(.set, key: key, value: value)) { $0.computes }
                return print(escaped(answer.said ?? ""))
            }
            print(escaped(try LimitFiles.set(key, to: value, in: folder)))
        }
    }
}

/// Limits in sentences.
enum LimitText {
    /// The same in a few words, for where there is more to be said.
    ///
    /// - Parameter hasJob: whether there is work that it could still do.
    static func brief(_ limits: LimitStatus, hasJob: Bool) -> [String] {
        var brief = limits
        brief.unseen = []
        if limits.mode == .drain, !hasJob { brief.mode = .away }
        let names = limits.unseen.map(\.limit)
        guard !names.isEmpty else { return reasons(brief, hasJob: hasJob) }
        return reasons(brief, hasJob: hasJob) + [
            "It cannot see \(names.map(subject).joined(separator: ", nor ")): `atoll limits` says what is done instead."
        ]
    }
    /// Why it does not work, what cannot be seen, and what this month has taken.
    ///
    /// - Parameter hasJob: whether there is work that it could still do.
    static func reasons(_ limits: LimitStatus, hasJob: Bool) -> [String] {
        var lines: [String] = []
        for (place, reason) in limits.reasons.enumerated() {
            let opening = place == 0 ? opening(limits.mode, hasJob: hasJob) : "Also, "
            let span = ProgressView.span(reason.seconds)
            guard reason.limit != "owner" else {
                // What was asked for was asked once.
                let ending = reason.until.map { "; \($0) ends that" } ?? ""
                lines.append("\(opening)\(reason.why) \(span) ago\(ending).")
                continue
            }
            let until = reason.until.map { ", until \($0)" } ?? ""
            lines.append("\(opening)\(reason.why) for \(span)\(until) (\(reason.limit)).")
        }
        for one in limits.unseen { lines.append("It cannot see \(subject(one.limit)) (\(one.why)): \(one.instead).") }
        if limits.cpuPercent < 100 { lines.append("It computes \(fixed(limits.cpuPercent, 0)) % of the time.") }
        if let damage = limits.monthDamage {
            lines.append("What was sent and received this month is not known: \(damage).")
        } else if limits.monthSentBytes + limits.monthReceivedBytes > 0 {
            lines.append(
                "Beyond the local network it has sent \(ByteCount(limits.monthSentBytes)) and received "
                    + "\(ByteCount(limits.monthReceivedBytes)) this month.")
        }
        return lines
    }
    /// What a limit looks at, for people.
    static func subject(_ limit: String) -> String {
        switch LimitKey(rawValue: limit) {
        case .onBattery: "whether this machine runs on its battery"
        case .userActive: "whether somebody uses this machine"
        case .temperature: "how hot the processor is"
        case .othersLoad: "how much others compute"
        case .metered: "whether the connection is paid by volume"
        default: limit
        }
    }
    private static func opening(_ mode: Allowance.Mode, hasJob: Bool) -> String {
        switch mode {
        case .work: ""
        case .hold:
            hasJob ? "It computes nothing for the moment, and keeps its job: " : "It computes nothing for the moment: "
        case .drain where hasJob: "It works until the round is over, and then for nobody: "
        case .drain: "It works for nobody: "
        case .away: "It works for nobody: "
        }
    }
    /// Of a limit: what it is called, and its value.
    static func head(_ value: LimitStatus.Value) -> String {
        escaped("  \(padded(value.key, 20)) \(padded(value.value, 12)) ")
    }
    static func meaning(_ value: LimitStatus.Value) -> String {
        value.meaning + (value.source.map { "; given by \($0)" } ?? "")
    }
    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }
}
