import Foundation
import Testing

/// What goes wrong on a volunteer's machine, by the commands that its owner types.
@Suite(.serialized) struct `A peer on a machine in trouble` {
    private func with<T>(_ body: (URL) throws -> T) throws -> T {
        let folder = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        return try body(folder)
    }
    /// What a command says by its exit code, with standard output, or errors, somewhere.
    private func code(
        _ words: [String], in folder: URL, output: String = "/dev/null", errors: String = "/dev/null",
        input: String? = nil
    ) throws -> (code: Int32, said: String) {
        let process = Process()
        process.executableURL = DemoTests.program
        process.arguments = words
        process.environment = ProcessInfo.processInfo.environment.merging([
            "ATOLL_HOME": folder.appendingPathComponent("home").path
        ]) { $1 }
        let said = folder.appendingPathComponent("said-\(UUID().uuidString)")
        _ = FileManager.default.createFile(atPath: said.path, contents: nil)
        process.standardOutput = FileHandle(forWritingAtPath: output == "said" ? said.path : output)
        process.standardError = FileHandle(forWritingAtPath: errors == "said" ? said.path : errors)
        process.standardInput = FileHandle.nullDevice
        if let input {
            let file = folder.appendingPathComponent("input-\(UUID().uuidString)")
            try input.write(to: file, atomically: true, encoding: .utf8)
            process.standardInput = FileHandle(forReadingAtPath: file.path)
        }
        try process.run()
        process.waitUntilExit()
        return (process.terminationStatus, try String(contentsOf: said, encoding: .utf8))
    }

    @Test func `what cannot be printed is no success, and errors that cannot be printed are no crash`() throws {
        try with { folder in
            for words in [["help", "NET-001"], ["--help"], ["events-reference"]] {
                #expect(try code(words, in: folder).code == 0)
                let full = try code(words, in: folder, output: "/dev/full", errors: "said")
                #expect(
                    full.code == 1 && full.said.contains("what was printed could not all be written"),
                    "\(words): \(full)")
                #expect(full.said.split(separator: "\n").count == 1)
            }
            #expect(try code(["nonsense"], in: folder, errors: "/dev/full").code == 2)
        }
    }

    @Test func `a key that cannot be used is put aside for the one of the words`() throws {
        try with { folder in
            let place = folder.appendingPathComponent("peer").path
            try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
            let data = ["--data", place]
            func write(_ text: String, _ name: String = "key") throws {
                try text.write(toFile: place + "/" + name, atomically: true, encoding: .utf8)
                try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: place + "/" + name)
            }
            try write(String(repeating: "3c", count: 32) + "\n")
            let listed = try code(["identity", "words"] + data, in: folder, output: "said").said
            let words = listed.split(whereSeparator: { !$0.isLetter }).joined(separator: " ")
            for broken in ["", "no key at all", String(repeating: "3c", count: 31)] {
                try write(broken)
                let kept = try code(["identity", "restore"] + data, in: folder, errors: "said", input: words)
                #expect(kept.code == 2 && kept.said.contains("--replace"), "\(kept)")
                let back = try code(
                    ["identity", "restore", "--replace"] + data, in: folder, errors: "said", input: words)
                #expect(back.code == 0, "\(back)")
                #expect(try String(contentsOfFile: place + "/key", encoding: .utf8).hasPrefix("3c3c"))
                #expect(try String(contentsOfFile: place + "/key.before", encoding: .utf8) == broken)
                try FileManager.default.removeItem(atPath: place + "/key.before")
            }
            try FileManager.default.removeItem(atPath: place + "/key")
            try FileManager.default.createSymbolicLink(atPath: place + "/key", withDestinationPath: "/nowhere/at/all")
            #expect(try code(["identity", "restore"] + data, in: folder, input: words).code == 2)
            #expect(try code(["identity", "restore", "--replace"] + data, in: folder, input: words).code == 0)
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func `an invite that could not be written was not made, and one for watching is none for work`() throws {
        try with { folder in
            let path = { (name: String) in folder.appendingPathComponent(name).path }
            let node = try Running(
                ["node", "--members", "--listen", "127.0.0.1:0", "--data", path("node")], folder, "node")
            defer { node.end(SIGKILL) }
            try #require(node.prints("peers join with"), "\(node.text)")
            let data = ["--data", path("node")]
            func listed() throws -> [Substring] {
                let list = try code(["invite", "list"] + data, in: folder, output: "said").said
                return list.split(separator: "\n").map { $0.prefix { $0 != " " } }
            }
            let before = try listed()
            #expect(before.count == 1)
            #expect(try code(["invite", "create", "--out", path("no/such/place.yaml")] + data, in: folder).code != 0)
            #expect(try code(["invite", "create", "--out", "-"] + data, in: folder, output: "/dev/full").code == 1)
            #expect(try listed() == before)

            let made = try code(
                ["invite", "create", "--role", "watcher", "--out", path("watch.yaml")] + data, in: folder)
            #expect(made.code == 0)
            let refused = try code(
                ["peer", "--invite", path("watch.yaml"), "--data", path("peer"), "--listen", "127.0.0.1:0"], in: folder,
                errors: "said")
            #expect(refused.code == 2 && refused.said.contains("this invite is for watching"), "\(refused)")
        }
    }

    private func connect(_ port: UInt16, count: Int) -> [Int32] {
        (0..<count).map { _ in
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            _ = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            return descriptor
        }
    }
    private func port(_ text: String, after words: String) -> UInt16? {
        text.components(separatedBy: words).dropFirst().first.flatMap { UInt16($0.prefix { $0.isNumber }) }
    }

    @Test(.timeLimit(.minutes(5)))
    func `whoever opens as many connections as there may be keeps neither the owner out nor blinds a sensor`() throws {
        try with { folder in
            let path = { (name: String) in folder.appendingPathComponent(name).path }
            let node = try Running(["node", "--listen", "127.0.0.1:0", "--data", path("node")], folder, "node")
            defer { node.end(SIGKILL) }
            try #require(node.prints("peers join with"), "\(node.text)")
            let arguments = [
                "peer", "--invite", path("node/invite.yaml"), "--listen", "127.0.0.1:0", "--data", path("peer"),
                "--metrics", "0", "--web",
            ]
            let few = try Running(arguments, folder, "few", files: 100)
            few.process.waitUntilExit()
            #expect(few.process.terminationStatus == 2 && few.text.contains("NET-008"), "\(few.text)")

            let peer = try Running(arguments, folder, "peer", ["ATOLL_LIMIT_OTHERS_LOAD_PERCENT": "99"], files: 128)
            defer { peer.end(SIGKILL) }
            try #require(peer.prints("it has joined the pool"), "\(peer.text)")
            let ports = ["metrics at http://127.0.0.1:", "\n  http://127.0.0.1:", "listening 127.0.0.1:"].map {
                port(peer.text, after: $0)
            }
            var held: [Int32] = []
            defer { for descriptor in held { close(descriptor) } }
            for _ in 0..<3 {
                for port in ports { held += connect(try #require(port), count: 100) }
                let status = try code(["status", "--data", path("peer")], in: folder, errors: "said")
                #expect(status.code == 0, "\(status.said)")
                for (port, words) in zip(ports, ["HTTP/1.1 200", "HTTP/1.1 401"]) {
                    #expect(try page(try #require(port)).hasPrefix(words))
                }
            }
            #expect(!peer.text.contains("Too many open files"), "\(peer.text)")
        }
    }
    private func page(_ port: UInt16) throws -> String {
        let descriptor = try #require(connect(port, count: 1).first)
        defer { close(descriptor) }
        _ = fcntl(descriptor, F_SETFL, 0)
        var patience = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        let request = Array("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nConnection: close\r\n\r\n".utf8)
        #expect(send(descriptor, request, request.count, Int32(MSG_NOSIGNAL)) == request.count)
        var buffer = [UInt8](repeating: 0, count: 200)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
    }

    @Test(.timeLimit(.minutes(5)))
    func `a control socket that is removed comes back`() throws {
        try with { folder in
            let path = { (name: String) in folder.appendingPathComponent(name).path }
            let node = try Running(["node", "--listen", "127.0.0.1:0", "--data", path("node")], folder, "node")
            defer { node.end(SIGKILL) }
            try #require(node.prints("peers join with"), "\(node.text)")
            try FileManager.default.removeItem(atPath: path("node/control"))
            #expect(node.prints("its control socket had been removed, and is there again"), "\(node.text)")
            #expect(try code(["status", "--data", path("node")], in: folder).code == 0)
        }
    }
}
