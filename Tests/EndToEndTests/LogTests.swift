import Foundation
import Testing

/// What daemons print: from which level on, how it begins in systemd's journal, and never a secret.
@Suite(.serialized) struct `Logs` {
    private struct Sample {
        let name: String, level: String, sentence: String, kind: String
    }
    private static func samples(in folder: URL) throws -> [Sample] {
        let run = try DemoTests.atoll(["events-reference", "--samples"], in: folder)
        return try run.out.split(separator: "\n").map { line in
            let object = try #require(
                try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: String])
            let event = try DemoTests.object(try #require(object["json"]))
            return Sample(
                name: try #require(object["name"]), level: try #require(object["level"]),
                sentence: try #require(object["sentence"]), kind: try #require(event["kind"] as? String))
        }
    }

    @Test func `have a sentence for all that went wrong, and none for what only machines read`() throws {
        let folder = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let samples = try Self.samples(in: folder)
        #expect(samples.count > 100)
        for sample in samples {
            switch sample.level {
            case "error", "warning": #expect(!sample.sentence.isEmpty, "\(sample.name)")
            case "debug": #expect(sample.sentence.isEmpty, "\(sample.name)")
            default: #expect(sample.level == "info")
            }
        }
    }

    @Test func `refuse a level that there is not`() throws {
        let folder = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let data = folder.appendingPathComponent("node").path
        let run = try DemoTests.atoll(["node", "--data", data, "--log-level", "loud"], in: folder)
        #expect(run.code == 2 && run.error.contains("loud") && run.error.contains("warning"), "\(run.error)")
        let other = try Running(
            ["node", "--data", data], folder, "loud", ["ATOLL_LOG_LEVEL": "loud"])
        other.process.waitUntilExit()
        #expect(other.process.terminationStatus == 2)
        #expect(other.text.contains("ATOLL_LOG_LEVEL=loud: one of error, warning, info, debug"), "\(other.text)")
    }

    /// The lines of JSON, each read; what is on standard error besides is none.
    private static func objects(_ text: String) throws -> [[String: Any]] {
        try text.split(separator: "\n").filter { !$0.hasPrefix("atoll: ") }.map { line in
            try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any], "\(line)")
        }
    }

    @Test(.timeLimit(.minutes(5))) func `tell what is asked for, and no secret at any level`() throws {
        let folder = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
        let node = try Running(
            ["node", "--members", "--listen", "127.0.0.1:0", "--data", path("node"), "--log-level", "debug"], folder,
            "node")
        defer { node.end(SIGKILL) }
        try #require(node.prints("invite"), "\(node.text)")
        func peer(_ name: String, _ more: [String], _ variables: [String: String] = [:]) throws -> Running {
            try Running(
                [
                    "peer", "--invite", path("node/invite.yaml"), "--listen", "127.0.0.1:0", "--data", path(name),
                    "--name", name,
                ] + more, folder, name, variables)
        }
        let all = try peer("all", ["--json", "--log-level", "debug"])
        // A limit that cannot be seen is a warning: a battery that says nothing of itself.
        let few = try peer("few", ["--json", "--log-level", "info"])
        let error = try peer("error", ["--log-level", "error"])
        let journal = try peer("journal", ["--web"], ["LOG_TO_JOURNAL": "1"])
        defer { for process in [all, few, error, journal] { process.end(SIGKILL) } }
        #expect(all.prints("speed_measured") && few.prints("speed_measured"), "\(all.text) \(few.text)")
        #expect(journal.prints("this machine computes"), "\(journal.text)")
        #expect(node.prints("has joined the pool"), "\(node.text)")

        // By the page's levels.
        let levels = Dictionary(try Self.samples(in: folder).map { ($0.kind, $0.level) }) { first, _ in first }
        let told = try Self.objects(few.text)
        #expect(told.count >= 3)
        for event in told { #expect(levels[try #require(event["kind"] as? String)] != "debug", "\(event)") }
        // Of a peer that is well there is nothing at `error`; what is told beside is on standard error.
        let beside = error.text.split(separator: "\n").filter { !$0.hasPrefix("atoll: ") }
        #expect(beside.isEmpty, "\(beside)")

        // Each line begins with its priority, and the address that opens the page is not told.
        let lines = journal.text.split(separator: "\n")
        #expect(lines.allSatisfy { $0.hasPrefix("<6>") || $0.hasPrefix("<4>") }, "\(lines)")
        #expect(lines.contains { $0.hasPrefix("<6>") && $0.contains("this machine computes") }, "\(lines)")
        #expect(journal.text.contains("the dashboard is served") && !journal.text.contains("/open/"), "\(lines)")

        let secrets = try Self.secrets(in: folder)
        #expect(secrets.count >= 6, "\(secrets.map(\.place))")
        for process in [node, all, few, error, journal] {
            for (place, words) in secrets {
                #expect(!words.contains { process.text.contains($0) }, "\(place) is in the log of \(process.name)")
            }
        }
    }

    /// What is in the keys' files and in invites, as digits and as they are written: what nobody may print.
    private static func secrets(in folder: URL) throws -> [(place: String, words: [String])] {
        var out: [(place: String, words: [String])] = []
        for place in try FileManager.default.subpathsOfDirectory(atPath: folder.path).sorted() {
            let file = folder.appendingPathComponent(place)
            if file.lastPathComponent == "key" {
                let text = try String(contentsOf: file, encoding: .utf8)
                    .trimmingCharacters(in: .whitespacesAndNewlines)
                try #require(text.count == 64, "\(place)")
                out.append((place, [text]))
            } else if file.lastPathComponent.hasPrefix("invite"), place.hasSuffix(".yaml") {
                let text = try String(contentsOf: file, encoding: .utf8)
                // A warrant is a statement, and good for nothing without what it names as its issuer.
                let words = text.matches(of: #/(?m)^(?:pool|issuer): "([0-9a-f]{64})"/#).map { String($0.output.1) }
                if !words.isEmpty { out.append((place, words)) }
            }
        }
        return out
    }
}
