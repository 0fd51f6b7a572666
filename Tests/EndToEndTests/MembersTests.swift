import Foundation
import Testing

/// A pool that keeps members, on loopback, by the commands that its owner types.
@Suite(.serialized) struct MembersTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("atoll-members-\(getpid())")
    private func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

    /// What a command says, and its exit code.
    private func run(_ arguments: [String], _ name: String) throws -> (text: String, code: Int32) {
        let running = try Running(arguments, folder, name)
        running.process.waitUntilExit()
        return (running.text, running.process.terminationStatus)
    }
    private func peer(_ name: String, _ invite: String, _ log: String) throws -> Running {
        try Running(
            [
                "peer", "--invite", path(invite), "--listen", "127.0.0.1:0", "--data", path(name), "--name", name,
                "--json",
            ],
            folder, log)
    }

    private func rename(_ address: String, _ name: String, in file: String) throws {
        let text = try String(contentsOfFile: path(file), encoding: .utf8)
        let changed = text.replacingOccurrences(of: "\"\(address):", with: "\"\(name):")
        #expect(changed != text)
        try changed.write(toFile: path(file), atomically: true, encoding: .utf8)
    }

    /// Whoever asks the doctor why nobody talks to a peer hears that it was removed, whether it runs or was refused.
    private func hearsOfIt(_ name: String) throws {
        let said = try run(["doctor", "--data", path(name), "--json"], "doctor-\(UUID().uuidString)")
        let object = try JSONSerialization.jsonObject(with: Data(said.text.utf8)) as? [String: Any]
        let findings = object?["findings"] as? [[String: Any]] ?? []
        let removed = findings.first { $0["code"] as? String == "POOL-004" }
        #expect(said.code == 1 && removed?["state"] as? String == "fail", "\(said.text)")
    }

    /// Whoever leaves has ended when that is said: its folder is free at once.
    private func leaves(_ peer: Running) throws {
        let left = try run(["leave", "--data", path(peer.name)], "leave")
        #expect(left.code == 0 && left.text.contains("has ended"), "\(left.text)")
        peer.process.waitUntilExit()
    }

    @Test(.timeLimit(.minutes(5)))
    func `who is invited joins, once by a one-use invite, and who is removed stays out, restarts included`() throws {
        try? FileManager.default.removeItem(at: folder)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        var node = try Running(
            ["node", "--members", "--listen", "127.0.0.1:0", "--data", path("node")], folder, "node")
        defer { node.end(SIGKILL) }
        try #require(node.prints("invite"), "\(node.text)")
        let address = try #require(
            node.text.split(separator: "\n").first { $0.hasPrefix("listening ") }?.split(separator: " ")[1])
        #expect(
            !(try String(contentsOfFile: path("node/invite.yaml"), encoding: .utf8)).contains("pool:"), "no pool key")

        let made = try run(
            ["invite", "create", "--data", path("node"), "--uses", "1", "--out", path("one.yaml")], "create")
        #expect(made.code == 0, "\(made.text)")
        // By a name, whose address is looked up: to apply, and by the daemon.
        try rename("127.0.0.1", "localhost", in: "one.yaml")
        var first = try peer("first", "one.yaml", "first")
        defer { first.end(SIGKILL) }
        try #require(first.prints("let in by"), "\(first.text)")
        try #require(first.prints("listening"))
        let late = try run(
            ["peer", "--invite", path("one.yaml"), "--data", path("late"), "--listen", "127.0.0.1:0"], "late")
        #expect(late.code == 1 && late.text.contains("used as often as it may be"), "\(late.text)")
        #expect(late.text.contains("INV-006"), "\(late.text)")

        let second = try peer("second", "node/invite.yaml", "second")
        defer { second.end(SIGKILL) }
        try #require(second.prints("let in by") && second.prints("overlay_joined"), "\(second.text)")
        let listed = try run(["invite", "list", "--data", path("node")], "list")
        #expect(listed.text.contains("used 1 of 1  used up"), "\(listed.text)")

        let identity = try run(["identity", "--data", path("first")], "identity")
        let key = try #require(identity.text.split(separator: "\n").first?.split(separator: " ").last)
        try #require(first.prints("overlay_joined"))
        Thread.sleep(forTimeInterval: 1)
        let revoked = try run(["invite", "revoke", String(key), "--data", path("node")], "revoke")
        #expect(revoked.code == 0 && revoked.text.contains("is removed"), "\(revoked.text)")
        #expect(first.prints("this machine was removed from the pool"), "\(first.text)")
        #expect(second.prints("member_joined") && second.prints("member_removed"), "\(second.text)")
        try hearsOfIt("first")
        try leaves(first)
        first = try peer("first", "one.yaml", "first-again")
        #expect(first.prints("this machine was removed from the pool"), "\(first.text)")
        first.end(SIGKILL)
        try hearsOfIt("first")
        node.end(SIGKILL)
        node = try Running(["node", "--listen", String(address), "--data", path("node")], folder, "node-again")
        try #require(node.prints("listening"))
        first = try peer("first", "one.yaml", "first-at-last")
        #expect(first.prints("this machine was removed from the pool"), "the node has forgotten: \(first.text)")
        #expect(second.process.isRunning && !second.text.contains("this machine was removed from the pool"))

        // The other one comes back to the node by itself, and hears what is said then.
        let other = try run(["identity", "--data", path("second")], "identity-2")
        let its = try #require(other.text.split(separator: "\n").first?.split(separator: " ").last)
        #expect(try run(["invite", "revoke", String(its), "--data", path("node")], "revoke-2").code == 0)
        #expect(second.prints("this machine was removed from the pool"), "\(second.text)")
    }
}
