import ArgumentParser
import Foundation
import Node
import Telemetry

/// From which level on events are printed.
struct LevelOption: ParsableArguments {
    @Option(help: "Print events from this level on: error, warning, info or debug (docs/EVENTS.md).")
    var logLevel: LogLevel?

    /// What was said for this process, or of all in the environment, or by its owner; nil: nothing.
    func chosen(by owner: LogLevel? = nil) throws(NodeError) -> LogLevel? {
        if let logLevel { return logLevel }
        guard let word = ProcessInfo.processInfo.environment["ATOLL_LOG_LEVEL"], !word.isEmpty else { return owner }
        guard let level = LogLevel(word) else {
            let words = LogLevel.allCases.map(\.word).joined(separator: ", ")
            throw .badInput("ATOLL_LOG_LEVEL=\(word): one of \(words) expected")
        }
        return level
    }
}
extension LogLevel: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
    public static var allValueStrings: [String] { allCases.map(\.word) }
    public var defaultValueDescription: String { word }
    public static var allValueDescriptions: [String: String] {
        [
            "error": "what does not mend itself", "warning": "also what went otherwise than it should",
            "info": "also what its owner wants to know", "debug": "everything",
        ]
    }
}

/// How a daemon's events are printed.
struct LogOptions: ParsableArguments {
    @Flag(help: "Events as JSON lines.") var json = false
    @OptionGroup var level: LevelOption

    /// - Parameter owner: what is in peer.yaml.
    func log(owner: LogLevel? = nil) throws(NodeError) -> EventLog {
        EventLog(level: try level.chosen(by: owner), asJSON: json)
    }
}

/// The lines in which events are printed: of that level and above, for people in sentences, for machines as JSON.
struct EventLog {
    let level: LogLevel
    let asJSON: Bool
    private let departures = Departures()

    /// - Parameter level: nil: sentences from `info` on, JSON of all events.
    init(level: LogLevel? = nil, asJSON: Bool = false) {
        self.level = level ?? (asJSON ? .debug : .info)
        self.asJSON = asJSON
    }

    /// Nil where it is not printed: of a lower level, or without a sentence of its own, which only `debug` does without.
    func line(_ event: Event) -> String? {
        guard event.level <= level else { return nil }
        if asJSON { return event.json }
        guard !departures.isTold(event) || level == .debug else { return nil }
        return event.sentence ?? (level == .debug ? event.words : nil)
    }

    /// Prints a line.
    func say(_ line: String, _ level: LogLevel = .info) {
        guard level <= self.level else { return }
        print(Journal.prefix(level, on: STDOUT_FILENO) + line)
        fflush(nil)
    }
}

/// Who has left is told once, and that a connection ends is news only of somebody with whom something is done: of a member of a launcher's job while
/// it is one (its loss is told besides), and of whomever a peer is connected to while it has a job. A process that has done what it was for closes its
/// connections, and no fault is in that.
private final class Departures {
    private var members: Set<String> = []
    private var left: Set<String> = []
    /// Of a peer.
    private var hasJob = false
    private var leader = ""
    /// Names are others' words.
    private static let most = 10_000

    func isTold(_ event: Event) -> Bool {
        switch event.what {
        case .peerJoined:
            note(event.peer, in: &members)
            left.remove(event.peer)
        case .peerLeft, .peerLost: note(event.peer, in: &left)
        case .jobAccepted: (hasJob, leader) = (true, event.peer)
        case .leaderChanged: leader = event.peer
        case .jobReleased: hasJob = false
        // Its coordinator has stopped for now, or is not heard, which is told.
        case .workPaused: note(leader, in: &left)
        case .rejoined: left.remove(leader)
        case .connectionMade: left.remove(event.peer)
        case .connectionInterrupted, .connectionResumed: return !matters(event.peer)
        case .connectionLost: return members.contains(event.peer) || !matters(event.peer)
        default: break
        }
        return false
    }
    private func matters(_ peer: String) -> Bool {
        !left.contains(peer) && (hasJob || members.contains(peer))
    }
    private func note(_ name: String, in set: inout Set<String>) {
        if set.count >= Self.most { set = [] }
        set.insert(name)
    }
}

/// Whether what is printed goes to systemd's journal, by systemd.exec(5): `JOURNAL_STREAM` names the device and inode of its stream.
enum Journal {
    static func isReading(_ descriptor: Int32) -> Bool {
        guard let stream = ProcessInfo.processInfo.environment["JOURNAL_STREAM"] else { return false }
        var file = stat()
        return fstat(descriptor, &file) == 0 && stream == "\(file.st_dev):\(file.st_ino)"
    }
    /// `<4>` of a warning there (sd-daemon(3)); nothing elsewhere.
    static func prefix(_ level: LogLevel, on descriptor: Int32) -> String {
        isReading(descriptor) ? "<\(level.priority)>" : ""
    }
}
