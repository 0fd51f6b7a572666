import ArgumentParser
import Daemon
import Foundation
import Node
import Primitives
import Telemetry

/// `atoll top`: what the daemons of this machine do, as it changes.
struct TopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top",
        abstract: "What the daemons of this machine do, drawn anew every second; without a terminal once.")
    @OptionGroup var choice: DaemonChoice
    @Flag(help: "One line of JSON for each daemon every second (docs/STATUS.md).") var json = false
    @OptionGroup var look: ScreenOptions

    func run() throws {
        var picture = Picture()
        while true {
            let all = try choice.ask(.status)
            let terminal = TerminalText.current
            if json {
                for found in all { print(found.json) }
            } else {
                let lines = try screens(all, terminal)
                if terminal.isTerminal { picture.draw(lines) } else { lines.forEach { print($0) } }
            }
            try Output.require()
            guard json || terminal.isTerminal else { return }
            sleep(1)
        }
    }
    /// Those that compute first, each with its part of the window; what a node does is said in the first sentences where there is little room.
    private func screens(
        _ all: [(folder: String, answer: ControlService.Answer, json: String)], _ terminal: TerminalText
    ) throws -> [String] {
        func order(_ answer: ControlService.Answer) -> Int {
            guard let daemon = answer.status?.daemon else { return 3 }
            return daemon.member?.computes == false || daemon.role == .node ? 2 : daemon.role == .launcher ? 1 : 0
        }
        let sorted = all.enumerated().sorted {
            let (left, right) = (order($0.element.answer), order($1.element.answer))
            return left == right ? $0.offset < $1.offset : left < right
        }
        // ^C ends this screen, and no daemon.
        let stopping =
            "To stop \(all.count == 1 ? "it: `atoll leave`" : "one: `atoll leave --data DIR`"). ^C ends this screen only."
        let below = [""] + terminal.wrapped(stopping, indent: 2)
        var (lines, left) = ([String](), terminal.height - 1 - below.count)
        for (place, found) in sorted.map(\.element).enumerated() {
            let share = terminal.with(height: max(4, left / (sorted.count - place) - (all.count > 1 ? 1 : 0)))
            var next = try screen(found.answer, found.folder, share)
            if all.count > 1 {
                let name = found.answer.status?.daemon.member?.name ?? "launcher"
                next.insert(terminal.bold(String("\(escaped(name)) in \(found.folder)".prefix(terminal.width))), at: 0)
            }
            lines += next
            left -= next.count
        }
        return lines + below
    }
    private func screen(
        _ answer: ControlService.Answer, _ folder: String, _ terminal: TerminalText
    ) throws -> [String] {
        guard let status = answer.status else { return [answer.error ?? "the daemon in \(folder) gave no status"] }
        let events = try ControlService.ask(.init(.why, about: ""), in: folder)?.answer.events ?? []
        let latest = events.compactMap { told -> String? in
            guard let sentence = Event(json: told.json)?.sentence else { return nil }
            return "\(ProgressView.span(told.secondsAgo)) ago: \(sentence.trimmingCharacters(in: .whitespaces))"
        }
        guard status.daemon.member != nil else {
            return Array(
                StatusText.lines(status, OwnCommand(to: folder)).flatMap { terminal.wrapped($0, indent: 2) }.prefix(
                    terminal.height - 1))
        }
        return PeerStory(status: status, command: OwnCommand(to: folder)).screen(
            terminal, latest: latest.suffix(5), stopping: "")
    }
}

/// `atoll why`: the events behind what a screen says.
struct WhyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "why", abstract: "Why a peer does not work; with words, all that has happened about them.",
        discussion: """
            WHAT is a kind of event (docs/EVENTS.md), a peer's name, a limit's key, any words of an event, or of a sentence that `atoll status` or a \
            screen shows: then the events behind that sentence are told.
            """)
    @OptionGroup var choice: DaemonChoice
    @Argument(help: "About what.") var what: [String] = []
    @Flag(help: "Events as JSON lines.") var json = false

    func run() throws {
        let words = what.joined(separator: " ")
        var isFirst = true
        for found in try choice.ask(.status) {
            guard let status = found.answer.status else { continue }
            func asked(_ about: String) throws -> [ControlService.Told] {
                try ControlService.ask(.init(.why, about: about), in: found.folder)?.answer.events ?? []
            }
            // Of whoever does not work itself: what has happened in its job.
            let isWorker = status.daemon.computes
            let topic =
                words.isEmpty ? (isWorker ? WhyTopic.paused : .interruptions) : WhyTopic(rawValue: words.lowercased())
            var (events, sentences) = (try asked(topic?.events ?? words), [String]())
            if events.isEmpty, topic == nil, let behind = WhyTopic.behind(words, status) {
                sentences = behind.sentences
                events = try asked(behind.events)
            }
            if json {
                for event in events { print(event.json) }
                continue
            }
            if !isFirst { print("") }
            isFirst = false
            let command = OwnCommand(to: found.folder)
            func say(_ line: String) { print(TerminalText.current.fitted(command.named(line))) }
            if words.isEmpty { say(escaped(Self.now(status))) }
            for sentence in sentences { say("“\(escaped(sentence))”") }
            if events.isEmpty {
                say(
                    words.isEmpty
                        ? status.daemon.computes && PeerStory(status: status).standstill.isEmpty
                            ? "Nothing has kept it from working."
                            : "`atoll why connections`, `atoll why rounds` and `atoll why members` say what has happened."
                        : sentences.isEmpty
                            ? "Nothing has happened about “\(escaped(words))”, and nothing is said of it. Try: \(WhyTopic.list)."
                            : "Nothing has happened about that since this daemon began.")
            }
            for told in events {
                guard let event = Event(json: told.json) else { continue }
                let text =
                    (event.sentence ?? event.quietSentence)?.trimmingCharacters(in: .whitespaces)
                    ?? event.kind
                say("\(ProgressView.span(told.secondsAgo)) ago: \(text) [\(event.kind)]")
            }
        }
    }
    private static func now(_ status: ControlService.Status) -> String {
        guard let member = status.daemon.member else {
            // What keeps a launcher's job is in its own sentences.
            return status.daemon.role == .node
                ? "A node computes nothing: others begin with it. It knows \(counted(status.daemon.overlay.contacts, "node")) of its pool."
                : StatusText.job(status.daemon).joined(separator: " ")
        }
        if member.computes == false {
            return member.job == nil
                ? "\(member.name) is a node: it computes nothing, and carries no job's record at the moment."
                : "\(member.name) is a node: it computes nothing, and carries the record of job “\(member.jobName ?? "")” with others."
        }
        if let limits = status.limits, !limits.reasons.isEmpty {
            return ([member.name + " is kept from working."] + LimitText.reasons(limits, hasJob: member.job != nil))
                .joined(separator: " ")
        }
        switch member.state {
        case .free: return "\(member.name) works for nobody, because no launcher whom you accept has offered anything."
        case .paused: return "\(member.name) was paused by its owner."
        case .leaving: return "\(member.name) leaves its job when the round is over."
        case .waiting:
            let since = member.unheardSeconds.map { " for \(ProgressView.span($0))" } ?? ""
            return member.isLeaderStopped == true
                ? "\(member.name) waits: the coordinator of its job has stopped it for now."
                : "\(member.name) waits: nothing has been heard of the coordinator of its job\(since)."
        case .working:
            let still = PeerStory(status: status).standstill
            return still.isEmpty ? "\(member.name) works: \(member.doing)." : "\(member.name) works. \(still)"
        }
    }
}
