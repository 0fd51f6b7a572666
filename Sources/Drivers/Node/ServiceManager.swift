package import Daemon
package import EventLoop
import Foundation
import Primitives
import Telemetry

/// Tells the service manager how the daemon is, where one has started it (`sd_notify(3)`): that it is ready, what it does, that it ends; and from the loop, again and again, that
/// the loop still turns (`sd_watchdog_enabled(3)`). A daemon that hangs is started anew then.
///
/// The protocol is datagrams of lines to the socket that `NOTIFY_SOCKET` names, so that no library is needed. Nothing is waited for, and a manager that does not listen is no
/// fault.
package final class ServiceManager {
    private let loop: Loop
    private let descriptor: Int32
    private var address = sockaddr_un()
    private let length: socklen_t
    /// Between two signs of life; nil where nobody asks for them.
    private let pause: Duration?
    private let status: () -> String
    private var said = ""
    private var timer: EventLoop.Timer?
    /// Between two words about what it does, at most.
    private static let statusPause = Duration.seconds(10)
    private static let statusBytes = 200

    /// What it is told goes to whoever started this process, not to what this process starts.
    package static func takeEnvironment() -> [String: String] {
        let names = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]
        let all = ProcessInfo.processInfo.environment
        for name in names { unsetenv(name) }
        return all.filter { names.contains($0.key) }
    }

    /// Nil where no service manager wants to hear of this process.
    /// - Parameters:
    ///   - environment: of `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    ///   - status: what the daemon does, in a clause.
    package init?(_ loop: Loop, _ environment: [String: String], status: @escaping () -> String) {
        guard let path = environment["NOTIFY_SOCKET"].map({ Array($0.utf8) }), path.count > 1,
            path.count < MemoryLayout.size(ofValue: address.sun_path),
            path[0] == UInt8(ascii: "/") || path[0] == UInt8(ascii: "@")
        else { return nil }
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { bytes in
            bytes.copyBytes(from: path)
            // A name that is in no folder.
            if path[0] == UInt8(ascii: "@") { bytes[0] = 0 }
        }
        length = socklen_t(MemoryLayout<sa_family_t>.size + path.count)
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        self.loop = loop
        self.status = status
        let isMeant = environment["WATCHDOG_PID"].map { Int32($0) == getpid() } ?? true
        let microseconds = environment["WATCHDOG_USEC"].flatMap { Int($0) }.flatMap { $0 > 0 ? $0 : nil }
        // Half of it, as the manual has it.
        pause = isMeant ? microseconds.map { .microseconds(max(1, min($0, 1 << 50) / 2)) } : nil
    }
    deinit { close(descriptor) }

    /// The daemon can be asked and asks others. From now on the loop tells that it turns.
    package func ready() {
        said = line()
        send("READY=1\nSTATUS=\(said)")
        guard timer == nil else { return }
        let timer = EventLoop.Timer(loop) { [unowned self] in
            tick()
            arm()
        }
        self.timer = timer
        arm()
    }
    /// It says goodbye to others.
    package func stopping() { send("STOPPING=1\nSTATUS=says goodbye to the others") }
    package func end() {
        timer?.close()
        timer = nil
    }

    private func arm() { timer?.arm(at: loop.now + min(pause ?? Self.statusPause, Self.statusPause)) }
    private func tick() {
        var words = pause == nil ? "" : "WATCHDOG=1\n"
        let now = line()
        if now != said { words += "STATUS=\(now)\n" }
        said = now
        if !words.isEmpty { send(words) }
    }
    /// Of one line, whatever others wrote into it.
    private func line() -> String {
        let clean = escaped(status())
        return clean.utf8.count <= Self.statusBytes ? clean : String(clean.prefix(Self.statusBytes / 4)) + "…"
    }
    private func send(_ words: String) {
        _ = Array(words.utf8).withUnsafeBytes { bytes in
            withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    sendto(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT), $0, length)
                }
            }
        }
    }
}

extension DaemonStatus {
    /// What it does, in a clause, for the service manager's own list.
    package var clause: String {
        guard overlay.isJoined else { return "nobody of its pool answers yet" }
        let known = "knows \(counted(overlay.contacts, "node")) of its pool"
        if let coordinator { return "leads “\(coordinator.jobName)”; \(known)" }
        guard let member else { return known }
        guard let job = member.jobName else { return "\(member.doing); \(known)" }
        return "“\(job)”: \(member.doing)"
    }
}
