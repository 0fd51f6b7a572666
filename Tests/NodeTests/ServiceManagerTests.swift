import Daemon
import EventLoop
import Foundation
import Node
import Primitives
import Testing

/// What a daemon tells the service manager that started it, heard at a socket as the manager has one.
@Suite struct `The service manager` {
    /// A manager's end.
    final class Ear {
        let path: String
        private let descriptor: Int32
        init(abstract: Bool = false) throws {
            let name = "/tmp/atoll-notify-\(getpid())-\(UInt32.random(in: 0 ... .max))"
            path = abstract ? "@" + name : name
            descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { bytes in
                bytes.copyBytes(from: Array(path.utf8))
                if abstract { bytes[0] = 0 }
            }
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { [count = path.utf8.count, descriptor] in
                    bind(descriptor, $0, socklen_t(2 + count))
                }
            }
            try #require(bound == 0)
        }
        deinit {
            close(descriptor)
            unlink(path)
        }
        /// What has come, and was not heard before.
        var heard: [String] {
            var out: [String] = []
            var buffer = [UInt8](repeating: 0, count: 4096)
            while true {
                let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
                guard count > 0 else { return out }
                out.append(String(decoding: buffer[..<count], as: UTF8.self))
            }
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: [false, true])
    func `hears that the daemon is ready, that its loop turns, and what it does, a line each`(isAbstract: Bool) throws {
        let ear = try Ear(abstract: isAbstract)
        let loop = Loop()
        var doing = "in a job\nREADY=0\u{1b}[2J" + String(repeating: "long ", count: 100)
        let manager = try #require(
            ServiceManager(
                loop,
                ["NOTIFY_SOCKET": ear.path, "WATCHDOG_USEC": "4000", "WATCHDOG_PID": "\(getpid())"], status: { doing }))
        manager.ready()
        let first = ear.heard
        #expect(first.count == 1 && first[0].hasPrefix("READY=1\nSTATUS=in a job"))
        // A name that others gave makes no line of its own, and is bounded.
        #expect(first[0].split(separator: "\n").count == 2 && first[0].utf8.count < 300)
        #expect(!first[0].contains("\u{1b}"))
        var signs = 0
        var words: [String] = []
        var again: (() -> Void)!
        let look = EventLoop.Timer(loop) { again() }
        again = {
            for one in ear.heard {
                signs += one.contains("WATCHDOG=1") ? 1 : 0
                words += one.split(separator: "\n").filter { $0.hasPrefix("STATUS=") }.map(String.init)
            }
            if signs >= 3 { doing = "waits" }
            if signs >= 6 { loop.stop() } else { look.arm(at: loop.now + .milliseconds(1)) }
        }
        again()
        loop.run()
        #expect(signs >= 6 && words == ["STATUS=waits"], "what it does is said where it has changed: \(words)")
        manager.stopping()
        #expect(ear.heard.last?.hasPrefix("STOPPING=1\n") == true)
        manager.end()
        look.close()
        loop.close()
    }

    @Test func `is not spoken to where there is none, and gets no sign of life that is meant for another process`()
        throws
    {
        let loop = Loop()
        defer { loop.close() }
        #expect(ServiceManager(loop, [:], status: { "" }) == nil)
        #expect(ServiceManager(loop, ["NOTIFY_SOCKET": "relative"], status: { "" }) == nil)
        #expect(
            ServiceManager(loop, ["NOTIFY_SOCKET": "/" + String(repeating: "x", count: 200)], status: { "" }) == nil)
        // A manager that is gone is no fault.
        let gone = try #require(ServiceManager(loop, ["NOTIFY_SOCKET": "/nowhere/at/all"], status: { "" }))
        gone.ready()
        gone.stopping()
        gone.end()
        let ear = try Ear()
        for strange in [
            ["WATCHDOG_USEC": "2000", "WATCHDOG_PID": "1"], ["WATCHDOG_USEC": "-4"], ["WATCHDOG_USEC": "soon"],
        ] {
            let manager = try #require(
                ServiceManager(loop, strange.merging(["NOTIFY_SOCKET": ear.path]) { $1 }, status: { "x" }))
            manager.ready()
            let look = EventLoop.Timer(loop) { loop.stop() }
            look.arm(at: loop.now + .milliseconds(20))
            loop.run()
            manager.end()
            look.close()
            #expect(ear.heard == ["READY=1\nSTATUS=x"])
        }
    }

    /// A process that it starts does not speak in its name.
    @Test func `is forgotten by what the daemon starts`() {
        setenv("NOTIFY_SOCKET", "/run/somewhere", 1)
        setenv("WATCHDOG_USEC", "9", 1)
        let taken = ServiceManager.takeEnvironment()
        #expect(taken["WATCHDOG_USEC"] == "9" && taken["NOTIFY_SOCKET"] == "/run/somewhere")
        #expect(getenv("NOTIFY_SOCKET") == nil && getenv("WATCHDOG_USEC") == nil)
    }
}
