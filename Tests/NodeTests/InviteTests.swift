import Foundation
import Node
import Primitives
import Testing

/// What an invite says of where a pool's nodes are.
@Suite struct `An invite` {
    private static let key = String(repeating: "0f", count: 32)
    private func read(_ bootstrap: String) throws -> Invite {
        let path = NSTemporaryDirectory() + "invite-\(UUID().uuidString).yaml"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try "pool: \"\(Self.key)\"\nbootstrap: [\(bootstrap)]\naccept: []\n".write(
            toFile: path, atomically: true, encoding: .utf8)
        return try Invite(file: path)
    }

    @Test func `has addresses of both kinds, and names, and keeps them when it is written`() throws {
        let invite = try read("\"192.0.2.7:7070\", \"[2001:db8::7]:7071\", \"node.example.org:7072\"")
        #expect(invite.bootstrap.map(\.description) == ["192.0.2.7:7070", "[2001:db8::7]:7071"])
        #expect(invite.names.map(\.description) == ["node.example.org:7072"] && !invite.isWithoutNodes)
        let path = NSTemporaryDirectory() + "invite-\(UUID().uuidString).yaml"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try invite.text.write(toFile: path, atomically: true, encoding: .utf8)
        let again = try Invite(file: path)
        #expect(again.bootstrap == invite.bootstrap && again.names == invite.names && again.text == invite.text)
    }

    @Test func `of a name alone names somebody, who is looked up`() throws {
        let invite = try read("\"localhost:7070\"")
        #expect(invite.bootstrap.isEmpty && !invite.isWithoutNodes)
        #expect(
            invite.nodes.contains(Endpoint(ipv4: 127, 0, 0, 1, port: 7070))
                || invite.nodes.contains(Endpoint("[::1]:7070")!))
        #expect(try read("").isWithoutNodes)
        // A name that nobody knows is no address, and no fault of the file.
        #expect(try read("\"nobody.invalid:7070\"").nodes == [])
    }

    @Test(arguments: [
        "node.example.org", "node.example.org:0", "192.0.2.7", "[2001:db8::7]", "no de:7070", "x\\u001b[2J:7070",
        "2001:db8::7:7070",
    ])
    func `refuses what is neither, and names the line`(place: String) {
        let error = #expect(throws: NodeError.self) { try read("\"\(place)\"") }
        #expect(
            error?.description.contains("line 2") == true && error?.description.contains("NAME:PORT") == true,
            "\(String(describing: error))")
    }

    private func reads(_ text: String) -> (invite: Invite?, problem: String) {
        let path = NSTemporaryDirectory() + "invite-\(UUID().uuidString).yaml"
        defer { try? FileManager.default.removeItem(atPath: path) }
        do {
            try text.write(toFile: path, atomically: true, encoding: .utf8)
            return (try Invite(file: path), "")
        } catch { return (nil, "\(error)") }
    }
    /// Cut in a line, between lines, in the list of launchers: whoever holds it is not to work for some of them only.
    @Test func `that was cut anywhere is refused, at its end and at its beginning`() throws {
        let launchers = (1...3).map { PeerID([UInt8](repeating: $0, count: 32))! }
        for invite in [
            Invite(
                name: "reef", poolKey: [UInt8](repeating: 7, count: 32), bootstrap: [Endpoint("192.0.2.7:7070")!],
                accept: launchers),
            Invite(name: "reef", poolKey: [UInt8](repeating: 7, count: 32), bootstrap: [], accept: []),
        ] {
            let text = invite.text
            let whole = reads(text)
            #expect(
                whole.invite?.accept == invite.accept && whole.invite?.bootstrap == invite.bootstrap, "\(whole.problem)"
            )
            #expect(reads(text.replacingOccurrences(of: "\n", with: "\r\n") + "\r\n").invite?.accept == invite.accept)
            for count in 0..<(text.count - 1) {
                let cut = reads(String(text.prefix(count)))
                #expect(cut.invite == nil, "\(count) of \(text.count)")
                if count > text.count - 5 { #expect(cut.problem.contains("the file was cut"), "\(cut.problem)") }
            }
            // All lines but the comment, which says nothing.
            let start = text.distance(from: text.startIndex, to: text.range(of: "---")!.lowerBound)
            for count in (start + 1)..<text.count {
                #expect(reads(String(text.dropFirst(count))).invite == nil, "from \(count) on")
            }
        }
    }
    @Test func `of an earlier version says who is accepted, or was cut`() {
        let head = "name: reef\npool: \"\(Self.key)\"\n"
        #expect(
            reads(head + "bootstrap:\n  - \"192.0.2.7:7070\"\naccept:\n  - \"\(Self.key)\"\n").invite?.accept.count == 1
        )
        for rest in ["", "bootstrap:\n", "bootstrap:\n  - \"192.0.2.7:7070\"\n", "bootstrap: []\naccept:\n"] {
            let cut = reads(head + rest)
            #expect(cut.invite == nil && cut.problem.contains("the file was cut"), "\(rest): \(cut.problem)")
        }
    }
}
