import Coordination
import Daemon
import Digests
import EventLoop
import Foundation
import Membership
import Node
import Primitives
import Record
import Testing

/// A peer that runs for real, asked by its owner's programs from another thread.
@Suite struct `The owner's line to a daemon` {
    /// Runs a daemon until it is told to leave. What the owner does happens meanwhile, elsewhere.
    private func withPeer(
        _ folder: String, services: @escaping (DataFolder, Instant) -> DaemonCore.Services,
        owner: @escaping @Sendable () -> Void
    ) throws -> RunEnd {
        let data = try DataFolder(folder)
        defer { data.close() }
        let run = ServiceRun()
        let setup = LiveDaemon.Setup(
            key: data.key, listen: Endpoint(ipv4: 127, 0, 0, 1, port: 0), poolKey: [UInt8](repeating: 7, count: 32),
            bootstrap: [], emulation: nil, seed: 1)
        return try run.run(
            setup, folder: data, services: { services(data, $0) },
            ready: { (_) throws(NodeError) in Thread { owner() }.start() }, onEvent: { _ in })
    }
    private func member(_ data: DataFolder, at now: Instant) -> DaemonCore.Services {
        DaemonCore.Services(
            member: Member(
                key: data.key,
                terms: MemberTerms(name: "mine", device: "cpu", memory: .mebibytes(64), accepts: []),
                wall: WallClock(secondsAtZero: 1000), at: now, parse: JobParameters.init(manifest:)))
    }
    private func temporary() -> String {
        // Longer than a socket's address may be.
        NSTemporaryDirectory() + "control-\(UUID().uuidString)/" + String(repeating: "long/", count: 30)
    }
    /// What one thread finds out for another.
    private final class Found: @unchecked Sendable {
        private let lock = NSLock()
        private var statuses: [ControlService.Status] = []
        private var errors: [String] = []
        func note(_ answer: ControlService.Answer?) {
            lock.withLock {
                if let status = answer?.status { statuses.append(status) }
                if let error = answer?.error { errors.append(error) }
            }
        }
        var all: ([ControlService.Status], [String]) { lock.withLock { (statuses, errors) } }
    }

    @Test func `tells what it does, pauses, goes on and leaves`() throws {
        let folder = temporary()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        #expect(try ControlService.ask(.status, in: folder) == nil)
        let found = Found()
        let end = try withPeer(folder, services: member) {
            for command in [ControlService.Command.status, .pause, .status, .resume, .leave] {
                found.note(try? ControlService.ask(command, in: folder)?.answer)
            }
        }
        let (statuses, errors) = found.all
        #expect(errors == [])
        #expect(statuses.compactMap(\.daemon.member?.state) == [.free, .paused, .paused, .free, .free])
        #expect(statuses.first?.daemon.member?.name == "mine" && statuses.first?.daemon.member?.memoryMebibytes == 64)
        #expect(statuses.first?.process == Int(getpid()))
        guard case .interrupted = end else {
            Issue.record("it ended as \(end)")
            return
        }
        // Nothing is left that would answer for a daemon that is gone.
        #expect(!FileManager.default.fileExists(atPath: folder + "/control"))
        #expect(try ControlService.ask(.status, in: folder) == nil)
    }

    @Test func `is for the owner alone, and refuses what it does not know`() throws {
        let folder = temporary()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let found = Found()
        let mode = Found()
        _ = try withPeer(folder, services: { _, _ in DaemonCore.Services() }) {
            let attributes = try? FileManager.default.attributesOfItem(atPath: folder + "/control")
            if attributes?[.posixPermissions] as? Int == 0o600 { mode.note(ControlService.Answer(error: "0600")) }
            if let client = try? LocalClient(path: folder + "/control") {
                for line in ["", "status", "{}", "{\"command\":\"format\"}", "{\"command\":7}"] {
                    let json = (try? client.ask(line)) ?? "{}"
                    found.note(try? JSONDecoder().decode(ControlService.Answer.self, from: Data(json.utf8)))
                }
            }
            // A line that never ends is cut off, and the others are served.
            if let client = try? LocalClient(path: folder + "/control") {
                found.note(
                    (try? client.ask(String(repeating: "x", count: 100_000))).map { ControlService.Answer(error: $0) })
            }
            found.note(try? ControlService.ask(.pause, in: folder)?.answer)
            _ = try? ControlService.ask(.leave, in: folder)
        }
        let (statuses, errors) = found.all
        #expect(statuses.isEmpty)
        #expect(errors.count == 6)
        #expect(errors.prefix(5).count { $0.contains("a line of JSON") } == 4)
        #expect(errors.contains { $0.contains("no command format") })
        #expect(errors.last?.contains("nothing to pause") == true)
        #expect(mode.all.1 == ["0600"])
    }
}
