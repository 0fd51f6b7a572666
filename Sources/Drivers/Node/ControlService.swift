public import Daemon
import EventLoop
import Foundation
public import Membership
import Primitives
import Telemetry

/// The owner's line to a running daemon: a socket `control` in its folder, a line of JSON for each question, one for each answer.
///
/// Only the owner's own programs get in (the folder, the socket's mode and the kernel's word on who connects).
public final class ControlService {
    /// What may be asked of a daemon.
    public enum Command: String, CaseIterable, Codable, Sendable {
        case status, pause, resume, leave
        /// Of a peer: to leave its job where the next round begins; to give a limit another value.
        case drain, set
        /// What has happened, about something or at all.
        case why
        /// Of whoever keeps a pool's members (``PoolOrder``).
        case revoke, rotate
    }
    /// A line to a daemon.
    public struct Request: Codable, Sendable {
        public let command: String
        /// Of `set`.
        var key: String?
        var value: String?
        /// Of `why`: words.
        var about: String?
        public init(_ command: Command, key: String? = nil, value: String? = nil, about: String? = nil) {
            (self.command, self.key, self.value, self.about) = (command.rawValue, key, value, about)
        }
    }
    /// An event, and how long ago it was.
    public struct Told: Codable, Sendable {
        /// From 1, in the order in which they happened.
        public var number: Int
        public var secondsAgo: Double
        /// As docs/EVENTS.md has it.
        public var json: String
    }
    /// Either an error is there, or what was asked for.
    public struct Answer: Codable, Sendable {
        public var status: Status?
        public var error: String?
        /// What became of a command, in a sentence.
        public var said: String?
        /// Of `why`, the newest last.
        public var events: [Told]?
        public init(status: Status? = nil, error: String? = nil) {
            self.status = status
            self.error = error
        }
    }
    public struct Status: Codable, Sendable {
        public var daemon: DaemonStatus
        /// Since the process began.
        public var uptimeSeconds: Double
        public var process: Int
        public var listening: String
        /// At the sockets.
        public var sentBytes: Int
        public var receivedBytes: Int
        /// Of a peer that keeps to limits of its owner.
        public var limits: LimitStatus?
        /// Of a peer that computes.
        public var processor: ProcessorStatus?
        /// Of jobs whose logs are in a peer's folder; nil before they are read.
        public var given: GivenStatus?
        /// Opens the dashboard, once; nil where there is none.
        public var dashboard: String?
    }
    /// So many events answer at most one question.
    static let mostEvents = 200
    public static let file = "control"

    private var listener: LocalListener?
    private var upkeep: EventLoop.Timer?
    private var descriptors = DescriptorWatch()
    private var isClosedTold = false
    private static let upkeepEvery = Duration.seconds(2)
    private let daemon: LiveDaemon
    private let loop: Loop
    private let began: Instant
    private let leave: () -> Void
    private let keeper: LimitKeeper?
    private let journal: EventJournal
    /// Where the dashboard is opened.
    var dashboard: () -> String? = { nil }
    /// What it has of the processors, and what it has given.
    var machine: () -> (processor: ProcessorStatus?, given: GivenStatus?) = { (nil, nil) }

    /// - Parameters:
    ///   - keeper: of a peer that keeps to limits.
    ///   - journal: what the daemon's events are noted in.
    ///   - leave: what ^C would do.
    public init(
        _ loop: Loop, _ daemon: LiveDaemon, in folder: String, keeper: LimitKeeper? = nil,
        journal: EventJournal = EventJournal(), leave: @escaping () -> Void
    ) throws(NodeError) {
        self.daemon = daemon
        self.keeper = keeper
        self.journal = journal
        self.loop = loop
        self.leave = leave
        began = loop.now
        do throws(SocketError) {
            listener = try LocalListener(loop, path: folder + "/" + Self.file) { [unowned self] stream, line in
                stream.write(answer(line))
            }
        } catch {
            throw .failed("cannot listen for `atoll status` in \(folder): \(error)")
        }
        upkeep = EventLoop.Timer(loop) { [unowned self] in lookAfter() }
        upkeep?.arm(at: loop.now + Self.upkeepEvery)
    }
    /// Whoever owns the folder may tidy it: the socket comes back.
    private func lookAfter() {
        upkeep?.arm(at: loop.now + Self.upkeepEvery)
        let isScarce = DescriptorLimit.isScarce
        if let news = descriptors.look(isScarce: isScarce, limit: DescriptorLimit.current, at: loop.now) { tell(news) }
        guard let listener, !listener.isInPlace else { return }
        do throws(SocketError) {
            try listener.putBack()
            isClosedTold = false
            tell(.controlRestored)
        } catch {
            if !isClosedTold { tell(.controlClosed(why: error.description)) }
            isClosedTold = true
        }
    }
    private func tell(_ what: Happening) { daemon.onEvent?(Event(what, at: loop.now)) }
    public func close() {
        upkeep?.close()
        listener?.close()
        listener = nil
    }

    func answer(_ line: String) -> String {
        var answer = Answer()
        do {
            let request = try JSONDecoder().decode(Request.self, from: Data(line.utf8))
            guard let command = Command(rawValue: request.command) else {
                let known = Command.allCases.map(\.rawValue).joined(separator: ", ")
                throw NodeError.badInput("no command \(request.command.prefix(40)); there are \(known)")
            }
            if command == .why {
                answer.events = told(request.about ?? "")
            } else {
                answer.said = try perform(command, request)
                answer.status = status
            }
        } catch let error as NodeError {
            answer.error = error.description
        } catch {
            answer.error = "a line of JSON with a command was expected"
        }
        return Self.encoded(answer)
    }
    private func perform(_ command: Command, _ request: Request) throws(NodeError) -> String? {
        switch command {
        case .status, .why: return nil
        case .revoke, .rotate:
            let order = try PoolOrder(request.key ?? "", request.value ?? "")
            guard let said = daemon.changeBook({ book, now in order.perform(on: &book, at: now) }) else {
                throw .failed("this daemon's pool is its key: it keeps no members")
            }
            return try said.get()
        case .leave:
            leave()
            return nil
        case .set:
            guard let keeper else {
                throw .failed("this daemon keeps to no limits: it is emulated, or works for nobody")
            }
            guard let key = request.key, let value = request.value else {
                throw .badInput("a key and a value are missing")
            }
            return try keeper.set(key, to: value)
        case .pause, .resume, .drain:
            guard daemon.core.services.member != nil else {
                throw .failed("this daemon does not work for jobs: there is nothing to \(command.rawValue)")
            }
            change(command)
            return nil
        }
    }
    /// What the owner wants of a peer: a reason among others where it keeps to limits.
    private func change(_ command: Command) {
        switch (command, keeper) {
        case (.pause, let keeper?): keeper.pauseByOwner()
        case (.drain, let keeper?): keeper.pauseByOwner(drain: true)
        case (_, let keeper?): keeper.resumeByOwner()
        case (.drain, nil): daemon.heedOwner(.leave(.owner, by: loop.now + LimitKeeper.drainPatience))
        case (.pause, nil): daemon.heedOwner(.pause(.owner))
        case (_, nil): daemon.heedOwner(.work)
        }
    }
    private func told(_ words: String) -> [Told] {
        journal.about(words, most: Self.mostEvents).map {
            Told(number: $0.number, secondsAgo: (loop.now - $0.event.at).inSeconds, json: $0.event.json)
        }
    }
    /// Of this moment.
    public var status: Status {
        let machine = machine()
        return Status(
            daemon: daemon.core.status(at: loop.now), uptimeSeconds: (loop.now - began).inSeconds,
            process: Int(getpid()), listening: daemon.endpoint.description, sentBytes: daemon.sentBytes,
            receivedBytes: daemon.receivedBytes, limits: keeper?.status(at: loop.now),
            processor: machine.processor, given: machine.given, dashboard: dashboard())
    }

    // MARK: the other end

    static func encoded(_ value: some Encodable) -> String {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Every number in it is finite, every text a string: nothing of it can fail.
        guard let data = try? encoder.encode(value) else { return "{\"error\":\"the status has no JSON\"}" }
        return String(decoding: data, as: UTF8.self)
    }

    /// Asks the daemon of a folder.
    /// - Returns: its answer, as it came; nil where no daemon answers there.
    public static func ask(_ command: Command, in folder: String) throws(NodeError) -> (answer: Answer, json: String)? {
        try ask(Request(command), in: folder)
    }
    public static func ask(_ request: Request, in folder: String) throws(NodeError) -> (answer: Answer, json: String)? {
        let client: LocalClient
        do throws(SocketError) { client = try LocalClient(path: folder + "/" + file) } catch {
            // A socket that nobody listens at is what an ended process left behind.
            guard DataFolder.isBusy(folder) else { return nil }
            throw .failed(
                "the daemon in \(folder) cannot be asked (\(error)). `atoll doctor` looks for why; `kill` its process to end it"
            )
        }
        do {
            let json = try client.ask(encoded(request))
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            return (try decoder.decode(Answer.self, from: Data(json.utf8)), json)
        } catch let error as SocketError {
            if let process = client.process, isStopped(process) {
                throw .failed(
                    "the daemon in \(folder) does not answer: its process is stopped. `kill -CONT \(process)` has it go on"
                )
            }
            throw .failed(
                "the daemon in \(folder) does not answer (\(error)). Its process may be stopped, or its machine very busy"
            )
        } catch {
            throw .failed("the daemon in \(folder) does not answer as this version expects: \(error)")
        }
    }
}

/// By a signal, or a debugger (proc_pid_stat(5): the third field).
private func isStopped(_ process: Int) -> Bool {
    guard let bytes = try? readFile("/proc/\(process)/stat", limit: 4096) else { return false }
    // After the name, which may have any characters.
    let state = String(decoding: bytes, as: UTF8.self).split(separator: ")").last?.split(separator: " ").first
    return state == "T" || state == "t"
}
