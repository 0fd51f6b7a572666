public import Daemon
import EventLoop
import Foundation
import Primitives

/// The owner's line to a running daemon: a socket `control` in its folder, a line of JSON for each question, one for each answer.
///
/// Only the owner's own programs get in (the folder, the socket's mode and the kernel's word on who connects).
public final class ControlService {
    /// What may be asked of a daemon.
    public enum Command: String, CaseIterable, Codable, Sendable {
        case status, pause, resume, leave
    }
    struct Request: Codable { var command: String }
    /// One of the two is there.
    public struct Answer: Codable, Sendable {
        public var status: Status?
        public var error: String?
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
    }
    public static let file = "control"

    private var listener: LocalListener?
    private let daemon: LiveDaemon
    private let loop: Loop
    private let began: Instant
    private let leave: () -> Void

    /// - Parameter leave: what ^C would do.
    public init(_ loop: Loop, _ daemon: LiveDaemon, in folder: String, leave: @escaping () -> Void) throws(NodeError) {
        self.daemon = daemon
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
    }
    public func close() {
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
            try perform(command)
            answer.status = status
        } catch let error as NodeError {
            answer.error = error.description
        } catch {
            answer.error = "a line of JSON with a command was expected"
        }
        return Self.encoded(answer)
    }
    private func perform(_ command: Command) throws(NodeError) {
        switch command {
        case .status: break
        case .leave: leave()
        case .pause, .resume:
            guard daemon.core.services.member != nil else {
                throw .failed("this daemon does not work for jobs: there is nothing to \(command.rawValue)")
            }
            daemon.pauseMember(command == .pause)
        }
    }
    private var status: Status {
        Status(
            daemon: daemon.core.status(at: loop.now), uptimeSeconds: (loop.now - began).inSeconds,
            process: Int(getpid()), listening: daemon.endpoint.description, sentBytes: daemon.sentBytes,
            receivedBytes: daemon.receivedBytes)
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
        let client: LocalClient
        do throws(SocketError) { client = try LocalClient(path: folder + "/" + file) } catch { return nil }
        do {
            let json = try client.ask(encoded(Request(command: command.rawValue)))
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            return (try decoder.decode(Answer.self, from: Data(json.utf8)), json)
        } catch {
            throw .failed("the daemon in \(folder) does not answer as this version expects: \(error)")
        }
    }
}
