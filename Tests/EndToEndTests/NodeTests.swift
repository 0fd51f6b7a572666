import Foundation
import Testing

/// `atoll node` and its tools as processes, on loopback.
@Suite(.serialized) struct NodeTests {
    /// A running node; ended by ``stop(_:)``, or when the test process ends.
    final class RunningNode {
        let process = Process()
        let output = Pipe()
        private(set) var endpoint = ""
        private(set) var id = ""

        init(_ arguments: [String], folder: URL) throws {
            process.executableURL = DemoTests.program
            process.arguments = ["node"] + arguments
            var environment = ProcessInfo.processInfo.environment
            environment["ATOLL_HOME"] = folder.appendingPathComponent("home").path
            environment["ATOLL_PARENT"] = "\(getpid())"
            process.environment = environment
            process.standardOutput = output
            process.standardInput = FileHandle.nullDevice
            try process.run()
            var text = ""
            while !text.contains("\n") {
                let data = output.fileHandleForReading.availableData
                if data.isEmpty { break }
                text += String(decoding: data, as: UTF8.self)
            }
            let words = text.split(whereSeparator: \.isWhitespace).map(String.init)
            try #require(words.count >= 4 && words[0] == "listening" && words[2] == "id", "\(text)")
            (endpoint, id) = (words[1], words[3])
        }
        func stop(_ signal: Int32) {
            kill(process.processIdentifier, signal)
            process.waitUntilExit()
        }
    }

    @Test func `nodes keep items and announcements over kill -9 and a restart`() throws {
        let folder = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        func data(_ name: String) -> String { folder.appendingPathComponent(name).path }
        let first = try RunningNode(
            ["--listen", "127.0.0.1:0", "--pool", "mainline", "--data", data("a")], folder: folder)
        let second = try RunningNode(
            ["--listen", "127.0.0.1:0", "--pool", "mainline", "--data", data("b"), "--bootstrap", first.endpoint],
            folder: folder)
        #expect(first.id.count == 40)
        let pool = ["--pool", "mainline", "--timeout", "5", "--bootstrap", second.endpoint]
        func tool(_ words: [String]) throws -> DemoTests.Run {
            try DemoTests.atoll(["node"] + words + pool, in: folder)
        }

        let put = try tool(["put", "hello reef"])
        #expect(put.code == 0)
        let target = try #require(put.out.split(separator: "\n").first?.split(separator: " ").last)
        #expect(try tool(["get", String(target)]).out.hasPrefix("hello reef\n"))
        let key = folder.appendingPathComponent("key").path
        #expect(try tool(["put", "one", "--key", key, "--salt", "s"]).code == 0)
        let two = try tool(["put", "two", "--key", key, "--salt", "s", "--json"])
        let object = try #require(try JSONSerialization.jsonObject(with: Data(two.out.utf8)) as? [String: Any])
        #expect(object["seq"] as? Int == 2)
        let old = try tool(["put", "old", "--key", key, "--salt", "s", "--seq", "1"])
        #expect(old.code == 1 && old.error.contains("302"))
        #expect(try tool(["announce", "job 7", "--port", "4711"]).code == 0)

        // One ends at once, the other by ^C; what they kept is there when they come back.
        Thread.sleep(forTimeInterval: 1.5)
        second.stop(SIGINT)
        #expect(second.process.terminationStatus == 130)
        first.stop(SIGKILL)
        let back = try RunningNode(
            ["--listen", second.endpoint, "--pool", "mainline", "--data", data("b")], folder: folder)
        #expect(back.id == second.id)
        #expect(try tool(["peers", "job 7"]).out.contains("127.0.0.1:4711"))
        #expect(try tool(["get", String(target)]).code == 0)
        let publicKey = try #require(object["key"] as? String)
        #expect(try tool(["get", "--key", publicKey, "--salt", "s"]).out.hasPrefix("two\n"))
        back.stop(SIGTERM)
    }

    @Test func `a closed pool has no answer for strangers, and its name is enough on the machine that made it`() throws
    {
        let folder = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let node = try RunningNode(
            ["--listen", "127.0.0.1:0", "--pool", "reef", "--data", folder.appendingPathComponent("a").path],
            folder: folder)
        defer { node.stop(SIGINT) }
        let stranger = try DemoTests.atoll(
            ["node", "lookup", "x", "--pool", "mainline", "--bootstrap", node.endpoint, "--timeout", "1"], in: folder)
        #expect(stranger.code == 1 && stranger.error.contains("nobody answered"))
        let member = try DemoTests.atoll(
            ["node", "lookup", "x", "--pool", "reef", "--bootstrap", node.endpoint, "--timeout", "5"], in: folder)
        #expect(member.code == 0 && member.out.contains(node.id))
        // A read-only node asks, and nobody lists it.
        let silent = try RunningNode(
            [
                "--listen", "127.0.0.1:0", "--pool", "reef", "--read-only", "--bootstrap", node.endpoint, "--data",
                folder.appendingPathComponent("b").path,
            ], folder: folder)
        defer { silent.stop(SIGINT) }
        Thread.sleep(forTimeInterval: 0.5)
        let listed = try DemoTests.atoll(["node", "lookup", "x", "--pool", "reef", "--timeout", "5"], in: folder)
        #expect(listed.code == 0 && !listed.out.contains(silent.id))
    }

    @Test(arguments: [
        (["node", "get", "xyz", "--pool", "mainline", "--bootstrap", "127.0.0.1:9"], "40 hexadecimal digits"),
        (["node", "lookup", "x"], "which pool?"),
        (["node", "lookup", "x", "--pool", "unheard-of"], "is not on this machine"),
        (["node", "lookup", "x", "--pool", "mainline"], "--bootstrap HOST:PORT"),
        (["node", "lookup", "--pool", "mainline", "--bootstrap", "127.0.0.1:9"], "is missing"),
        (["node", "--bootstrap", "nonsense"], "HOST:PORT expected"),
        (["node", "--listen", "nowhere", "--pool", "mainline"], "--listen nowhere"),
        (["node", "--pool", "../x"], "letters, digits"),
        (["node", "put", "v", "--mutable", "--pool", "mainline", "--bootstrap", "127.0.0.1:9"], "a key that stays"),
        (["node", "put", "v", "--seq", "3", "--pool", "mainline", "--bootstrap", "127.0.0.1:9"], "--mutable"),
        (["node", "announce", "x", "--port", "0", "--pool", "mainline", "--bootstrap", "127.0.0.1:9"], "1 to 65535"),
        (["node", "simulate", "--nodes", "3"], "--nodes 3"), (["node", "simulate", "--loss", "1.5"], "--loss 1.5"),
        (["node", "simulate", "--churn-trace", "/nonexistent"], "/nonexistent"),
    ])
    func `wrong input is named, with what to try`(arguments: [String], expected: String) throws {
        let folder = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let run = try DemoTests.atoll(
            arguments[1] == "--pool" || arguments[1] == "--bootstrap"
                ? arguments + ["--data", folder.appendingPathComponent("n").path] : arguments, in: folder)
        #expect(run.code == 2)
        #expect(run.error.contains(expected), "\(run.error)")
    }

    @Test func `a peer cannot offer memory that its machine does not have`() throws {
        let folder = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let node = try RunningNode(
            ["--listen", "127.0.0.1:0", "--pool", "reef", "--data", folder.appendingPathComponent("a").path],
            folder: folder)
        defer { node.stop(SIGINT) }
        let run = try DemoTests.atoll(
            [
                "peer", "--invite", folder.appendingPathComponent("a/invite.yaml").path, "--memory", "900000000",
                "--data", folder.appendingPathComponent("p").path, "--listen", "127.0.0.1:0",
            ], in: folder)
        #expect(run.code == 2 && run.error.contains("858.3 TiB would be offered"), "\(run.error)")
        #expect(run.error.contains("this machine has") && run.error.contains("MEM-001"))
    }

    @Test func `a simulation is repeatable and prints JSON`() throws {
        let folder = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let words = ["node", "simulate", "--nodes", "60", "--rounds", "6", "--loss", "0.02", "--json"]
        let first = try DemoTests.atoll(words, in: folder)
        #expect(first.code == 0)
        #expect(try JSONSerialization.jsonObject(with: Data(first.out.utf8)) is [String: Any])
        #expect(try DemoTests.atoll(words, in: folder).out == first.out)
    }
}
