import ArgumentParser
import Daemon
import Foundation
import Lending
import Node
import Primitives
import Telemetry

/// Which daemons of this machine are meant.
struct DaemonChoice: ParsableArguments {
    @Option(help: "The daemon's folder, instead of all that run from this user's own.") var data: String?

    /// Those that answer, with their folders.
    func ask(
        _ command: ControlService.Command
    ) throws -> [(folder: String, answer: ControlService.Answer, json: String)] {
        var silent: [NodeError] = []
        let found = folders.compactMap { folder -> (String, ControlService.Answer, String)? in
            do throws(NodeError) {
                return try ControlService.ask(command, in: folder).map { (folder, $0.answer, $0.json) }
            } catch {
                silent.append(error)
                return nil
            }
        }
        // One that stands still keeps nobody from the others.
        if found.isEmpty, let first = silent.first { throw first }
        for error in silent { complain(error.description, .warning) }
        guard !found.isEmpty else {
            throw NodeError.failed(
                data.map { "no daemon runs in \($0)" }
                    ?? "no daemon runs from \(Home.path). Where one has a folder of its own, name it with --data DIR")
        }
        return found
    }
    /// The peer's folder that is meant where none of this user's runs; nil where one does.
    func sleeping() throws -> String? {
        if let data { return DataFolder.isBusy(data) ? nil : data }
        let peers = folders.filter {
            ($0 as NSString).lastPathComponent.hasPrefix("peer") && isThere($0 + "/key")
        }
        guard !peers.contains(where: DataFolder.isBusy) else { return nil }
        guard peers.count < 2 else {
            throw NodeError.badInput(
                "no peer runs, and there are \(peers.count) here: choose one with --data, of "
                    + peers.joined(separator: ", "))
        }
        return peers.first
    }
    private var folders: [String] { data.map { [$0] } ?? Self.usual }
    /// Where this user's daemons have theirs.
    static var usual: [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: Home.path)) ?? []
        // A node keeps the identity of its owner's launcher within its own folder.
        return names.sorted().flatMap { [Home.path + "/" + $0, Home.path + "/" + $0 + "/launcher"] }
    }
    /// The one that is meant: of several, one has to be named.
    func one(_ command: ControlService.Command, _ isMeant: (DaemonStatus) -> Bool) throws -> ControlService.Status {
        guard let status = try one(.init(command), isMeant).status else {
            throw NodeError.failed("the daemon gave no status")
        }
        return status
    }
    func one(
        _ request: ControlService.Request, _ isMeant: (DaemonStatus) -> Bool
    ) throws -> ControlService.Answer { try found(request, isMeant).answer }

    /// The same with its folder, and as it came.
    ///
    /// - Parameter isLikely: where several could be meant, the one of which alone this is true.
    func found(
        _ request: ControlService.Request, likely isLikely: (ControlService.Status) -> Bool = { _ in false },
        _ isMeant: (DaemonStatus) -> Bool
    ) throws -> (folder: String, answer: ControlService.Answer, json: String) {
        var all = try ask(.status).filter { $0.answer.status.map { isMeant($0.daemon) } ?? false }
        let likely = all.filter { $0.answer.status.map(isLikely) ?? false }
        if all.count > 1, likely.count == 1 { all = likely }
        guard let first = all.first, all.count == 1 else {
            throw NodeError.badInput(
                all.isEmpty
                    ? "none of the daemons here can \(request.command)"
                    : "\(all.count) daemons run here, and one is meant: "
                        + all.map { Self.choice(of: $0.folder, $0.answer.status?.daemon, request) }.joined(
                            separator: ", "))
        }
        guard let done = try ControlService.ask(request, in: first.folder) else {
            throw NodeError.failed("the daemon in \(first.folder) has just ended")
        }
        if let error = done.answer.error { throw NodeError.failed(error) }
        return (first.folder, done.answer, done.json)
    }
    /// What is typed for it, and whose it is.
    private static func choice(of folder: String, _ daemon: DaemonStatus?, _ request: ControlService.Request) -> String
    {
        let whose = daemon?.member?.name ?? (daemon?.role == .node ? "the node" : "the launcher")
        let verb = request.command == "set" ? "limits set …" : request.command
        let command = OwnCommand(to: folder, isBusy: { _ in true })
        return "`atoll \(verb) \(command.choice ?? "")` (\(whose))"
    }
}

/// `atoll status`: what the daemons of this machine are and do.
struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "What the daemons of this machine are and do.")
    @OptionGroup var choice: DaemonChoice
    @Flag(help: "One line of JSON for each daemon (docs/STATUS.md).") var json = false
    @Flag(help: "Again every second, until ^C.") var watch = false
    @OptionGroup var look: ScreenOptions

    func run() throws {
        while true {
            let all = try choice.ask(.status)
            if watch, !json, isatty(1) == 1 { print("\u{1B}[H\u{1B}[2J", terminator: "") }
            for (place, found) in all.enumerated() {
                if json {
                    print(found.json)
                } else if let status = found.answer.status {
                    if place > 0 { print("") }
                    for line in StatusText.lines(status, OwnCommand(to: found.folder)) {
                        for part in TerminalText.current.wrapped(line, indent: 2) { print(part) }
                    }
                } else {
                    throw NodeError.failed(found.answer.error ?? "the daemon in \(found.folder) gave no status")
                }
            }
            try Output.require()
            guard watch else { return }
            sleep(1)
        }
    }
}

/// What a peer's owner wants of it, by a word to its daemon.
struct OwnersRequest: ParsableArguments {
    @OptionGroup var choice: DaemonChoice
    @Flag(help: "What the daemon answers: one line of JSON (docs/STATUS.md).") var json = false

    /// - Parameters:
    ///   - isLikely: which one is meant, where there are several.
    ///   - text: what is said of it, of the peer's name and what it is now.
    func send(
        _ command: ControlService.Command, likely isLikely: (ControlService.Status) -> Bool = { _ in false },
        _ text: (String, ControlService.Status) -> String
    ) throws {
        let found = try choice.found(.init(command), likely: isLikely) { $0.computes }
        guard !json else { return print(found.json) }
        guard let status = found.answer.status else { throw NodeError.failed("the daemon gave no status") }
        let said = text(status.daemon.member?.name ?? "the peer", status)
        for line in TerminalText.current.wrapped(OwnCommand(to: found.folder).named(said)) { print(line) }
    }
}

/// `atoll pause`: the owner wants the machine now.
struct PauseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause", abstract: "Have a peer compute nothing, until `atoll resume`.",
        discussion: """
            It stops at once, and keeps its place in its job for a few seconds (the limit hand_over_after_s): a short pause costs nothing. When it lasts, \
            others take its place, and what is not sealed of the round is done anew. `atoll drain` lets the round end first.
            """)
    @OptionGroup var request: OwnersRequest

    func run() throws {
        try request.send(.pause) { OwnersText.paused($0, $1) }
    }
}

struct ResumeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume", abstract: "End a peer's pause: it goes on with its job, or takes offers again.")
    @OptionGroup var request: OwnersRequest

    func run() throws {
        // Of several that one which is paused.
        try request.send(.resume, likely: { $0.limits?.reasons.contains { $0.limit == "owner" } ?? false }) {
            OwnersText.resumed($0, $1)
        }
    }
}

/// `atoll drain`: pause, when the round is over.
struct DrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain", abstract: "Have a peer leave its job where the next round begins, and take no other.")
    @OptionGroup var request: OwnersRequest

    func run() throws {
        try request.send(.drain) { OwnersText.drained($0, $1) }
    }
}

struct LeaveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "leave",
        abstract: "End a daemon in good order, as ^C in its terminal does, and wait until it has ended.")
    @OptionGroup var choice: DaemonChoice
    @Flag(help: "What the daemon answered: one line of JSON (docs/STATUS.md).") var json = false

    /// What is being written to a slow disk takes a while.
    private static let patience = 60.0

    func run() throws {
        let found = try choice.found(.init(.leave)) { _ in true }
        guard let status = found.answer.status else { throw NodeError.failed("the daemon gave no status") }
        let progress = ProgressLine()
        let began = Date()
        // Whoever starts another at once finds the folder free, and the identity in it.
        while DataFolder.isBusy(found.folder), kill(pid_t(status.process), 0) == 0 {
            let waited = Date().timeIntervalSince(began)
            guard waited < Self.patience else {
                progress.end()
                throw NodeError.failed(
                    "process \(status.process) has said goodbye, and has not ended in \(fixed(Self.patience, 0)) s: it may be writing to a slow disk. "
                        + "Its folder \(found.folder) is in use until then")
            }
            progress.show { "waiting until process \(status.process) has ended" }
            usleep(50_000)
        }
        progress.end()
        print(json ? found.json : "process \(status.process) has said goodbye and has ended")
    }
}

/// What became of an owner's word, in sentences.
enum OwnersText {
    static func paused(_ name: String, _ status: ControlService.Status) -> String {
        let member = status.daemon.member
        guard status.limits?.mode == .hold, member?.job != nil else {
            return "\(name) is paused: it works for nobody until `atoll resume`."
        }
        let kept = status.limits?.values.first { $0.key == LimitKey.handOverAfter.rawValue }?.value ?? "a few"
        guard member?.work?.rank != nil else {
            return "\(name) is paused until `atoll resume`. It holds nothing of the job, which goes on without it."
        }
        return
            "\(name) is paused: it computes nothing until `atoll resume`. It keeps its place in the job for \(kept) s, so that a short pause costs "
            + "nothing. If it lasts, others take its place, and what is not sealed of the round is done anew (`atoll drain` lets the round end first)."
    }
    static func resumed(_ name: String, _ status: ControlService.Status) -> String {
        if let limits = status.limits, !limits.reasons.isEmpty {
            return "\(name) is paused by its owner no more, and still kept from working: \(limits.reasons[0].why)."
        }
        return status.daemon.member?.job != nil && status.daemon.member?.state != .paused
            ? "\(name) goes on with its job where it stood." : "\(name) takes offers again."
    }
    static func drained(_ name: String, _ status: ControlService.Status) -> String {
        status.daemon.member?.state == .leaving
            ? "\(name) leaves its job when the round is over, and takes no other until `atoll resume`."
            : paused(name, status)
    }
}

/// A status in sentences.
enum StatusText {
    static func lines(_ status: ControlService.Status, _ command: OwnCommand = .plain) -> [String] {
        let daemon = status.daemon
        let page = status.dashboard.map { ["Its page opens once, at \($0)"] } ?? []
        if daemon.member != nil { return PeerStory(status: status, command: command).paragraphs + rest(daemon) + page }
        let role =
            switch daemon.role {
            case .launcher, .peer: "A launcher"
            case .node: "A node"
            }
        var lines = [
            "\(role), key \(daemon.id.prefix(8))…, process \(status.process), has run for "
                + "\(ProgressView.span(status.uptimeSeconds)) and listens at \(status.listening).",
            daemon.turnedAway?.sentence ?? overlay(daemon.overlay),
        ]
        lines += rest(daemon)
        lines.append(
            "It has sent \(ByteCount(status.sentBytes)) and received \(ByteCount(status.receivedBytes)).")
        lines += connections(daemon)
        return lines + page
    }

    /// What whoever leads or carries a job says of it.
    static func job(_ daemon: DaemonStatus) -> [String] {
        let lines = rest(daemon).map { $0.trimmingCharacters(in: .whitespaces) }
        return lines.isEmpty ? ["It has no job at the moment."] : lines.map { $0.hasSuffix(".") ? $0 : $0 + "." }
    }
    private static func rest(_ daemon: DaemonStatus) -> [String] {
        var lines: [String] = []
        if let coordinator = daemon.coordinator { lines += Self.coordinator(coordinator) }
        if let elector = daemon.elector, elector.electors.count > 1 { lines += Self.elector(elector) }
        return lines
    }

    private static func overlay(_ overlay: DaemonStatus.Overlay) -> String {
        guard overlay.isJoined || overlay.contacts > 0 else {
            return "Nobody of its pool answers yet; it keeps trying."
        }
        let seen = overlay.external.map { ", and is seen at \($0)" } ?? ""
        return "It knows \(overlay.contacts) \(overlay.contacts == 1 ? "node" : "nodes") of its pool\(seen)."
            + (overlay.isReachable
                ? "" : " Others cannot reach it from outside: a router or a firewall lets nobody in.")
            + (overlay.berths.isEmpty ? "" : " They reach it through \(overlay.berths.joined(separator: " and ")).")
            + (overlay.forwarding.map { " " + ForwardingText.sentence($0) } ?? "")
            + (overlay.relay.map { relay in
                " It carries up to \(fixed(relay.megabits, 1)) Mbit/s for others: \(relay.berths) may be reached through it, "
                    + "\(relay.circuits) circuits are open, \(ByteCount(relay.carriedBytes)) have passed."
            } ?? "")
    }
    private static func coordinator(_ job: DaemonStatus.Leadership) -> [String] {
        var line =
            "It coordinates job \(job.job.prefix(8))… “\(job.jobName)”, which is \(job.stage), in round \(job.round): "
        line += "\(grouped(job.tokens)) of \(grouped(job.tokensTotal)) tokens"
        if let loss = job.trainLoss { line += ", loss \(fixed(loss, 3))" }
        var lines = [line + "."]
        if let left = job.awaitsLauncherSeconds {
            lines.append(
                "All is trained: it waits for whoever launched the job to collect the result, for \(ProgressView.span(left)) more."
            )
        }
        if job.logCommitted < job.logLength {
            let waiting = job.logLength - job.logCommitted
            lines.append(
                "\(waiting) \(waiting == 1 ? "entry of its log waits" : "entries of its log wait") to be agreed on.")
        }
        // Who was only met, a node for one, is none of the job's.
        for peer in job.peers where peer.standing != "met" {
            var line = "  \(peer.name): \(peer.standing)"
            if let place = peer.place {
                line += ", stage \(place.stage + 1) of \(place.stages) in pipeline \(place.rank + 1)"
            }
            if let doing = peer.doing, !doing.isEmpty { line += ", \(doing)" }
            if let why = peer.why { line += ": \(why)" }
            if peer.standing == "joined", peer.silentSeconds > 3 {
                line += ", silent for \(fixed(peer.silentSeconds, 0)) s"
            }
            lines.append(line)
        }
        return lines
    }
    private static func elector(_ elector: DaemonStatus.Election) -> [String] {
        let leader =
            elector.isLeader
            ? "it coordinates the job"
            : elector.leader.map { "\($0) coordinates the job" } ?? "nobody coordinates the job at the moment"
        var lines = [
            "It carries the record of job \(elector.job.prefix(8))…: \(leader). Of "
                + "\(elector.logLength) \(elector.logLength == 1 ? "entry" : "entries") \(elector.logCommitted) "
                + "\(elector.logCommitted == 1 ? "is" : "are") agreed on; signatures of a quorum are here for "
                + "\(elector.logCertified).",
            "  electors: "
                + elector.electors.map { one in
                    one.peer + (one.isSelf ? " (this one)" : one.isConnected ? "" : " (not connected)")
                }.joined(separator: ", "),
        ]
        if let ended = elector.ended {
            lines.append("  The job is over (\(ended)); it answers whoever was away, for an hour after that.")
        }
        if elector.leader == nil, elector.ended == nil,
            elector.electors.count(where: \.isConnected) * 2 <= elector.electors.count
        {
            lines.append("  More than half of the electors have to be connected for the job to go on.")
        }
        return lines
    }
    private static func connections(_ daemon: DaemonStatus) -> [String] {
        guard !daemon.connections.isEmpty else { return ["It is connected to nobody."] }
        return ["It is connected to:"]
            + daemon.connections.map { connection in
                "  \(daemon.inWords(connection.peer))  "
                    + (connection.relayedBy.map { "relayed by \(daemon.inWords($0))" } ?? connection.endpoint)
                    + (connection.byDatagrams == true ? " by datagrams" : "")
                    + (connection.roundTripMilliseconds.map { "  \(fixed($0, 1)) ms" } ?? "")
            }
    }
}
