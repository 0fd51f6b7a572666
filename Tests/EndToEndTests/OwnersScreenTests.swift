import Foundation
import Testing

/// What a peer's owner reads, of daemons that say what a test has them say.
@Suite struct `An owner's screen` {
    private func with<T>(_ statuses: [(String, [String: Any])], _ body: (URL, [FakeDaemon]) throws -> T) throws -> T {
        let folder = try DemoTests.makeFolder()
        let daemons = try statuses.map { try FakeDaemon(folder, $0.0, $0.1) }
        defer {
            for daemon in daemons { daemon.end() }
            try? FileManager.default.removeItem(at: folder)
        }
        return try body(folder, daemons)
    }
    private func said(_ words: [String], of status: [String: Any]) throws -> String {
        try with([("peer", status)]) { folder, _ in
            let run = try DemoTests.atoll(words, in: folder)
            #expect(run.code == 0, "\(run.error)")
            // Without line breaks, which are the window's.
            return run.out.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        }
    }
    private func taken(_ asked: Double, _ had: Double) -> [String: Any] {
        [
            "processor": [
                "is_taken": true, "over_seconds": 60.0, "asked_seconds": asked, "had_seconds": had,
            ] as [String: Any]
        ]
    }

    @Test func `says when other programs take the processor, and when that cannot be seen`() throws {
        let starved = try said(["status"], of: FakeDaemon.peer(FakeDaemon.working, taken(59, 0.3)))
        #expect(
            starved.contains(
                "other programs of this machine take the processor: in the last 60 s it asked for 59 s of it and had 0.3 s"
            ),
            "\(starved)")
        #expect(!starved.contains("No limit keeps it from working (`atoll limits`)."))
        let blind = try said(
            ["status"],
            of: FakeDaemon.peer([:], ["processor": ["is_taken": false, "unseen": "there is no /proc/self/task"]]))
        #expect(
            blind.contains("whether other programs take the processor cannot be seen (there is no /proc/self/task)"),
            "\(blind)")
        let fine = try said(["status"], of: FakeDaemon.peer())
        #expect(fine.contains("No limit keeps it from working (`atoll limits`)."))
    }

    @Test func `a node waits for no offer, and who knows others does not say that nobody answers`() throws {
        let node = try said(
            ["status"], of: FakeDaemon.peer(["computes": false], overlay: ["is_joined": false]))
        #expect(!node.contains("waits for an offer") && !node.contains("first offer"), "\(node)")
        #expect(node.contains("It knows 3 nodes") && !node.contains("Nobody of its pool answers"), "\(node)")
        let alone = try said(["status"], of: FakeDaemon.peer([:], overlay: ["is_joined": false, "contacts": 0]))
        #expect(alone.contains("Nobody of its pool answers yet"), "\(alone)")
    }

    @Test func `what was given stays said when the job is over; stages and pipelines count from one`() throws {
        let after = try said(
            ["status"],
            of: FakeDaemon.peer(
                [:], ["given": ["jobs": 2, "counted": 90, "late": 1, "lost": 0, "superseded": 3]]))
        #expect(
            after.contains("You have given 94 micro-batches to 2 jobs: 90 count, 1 came too late, 3 were superseded"),
            "\(after)")
        let during = try said(["status"], of: FakeDaemon.peer(FakeDaemon.working))
        #expect(during.contains("It is stage 2 of 3 in pipeline 1 and holds units 2 to 3"), "\(during)")
        #expect(during.contains("You have given 99 micro-batches: 92 count, 4 came too late, 3 were superseded"))
    }

    @Test func `sentences lead to the events behind them, which are told as sentences`() throws {
        let status = FakeDaemon.peer(FakeDaemon.working, taken(59, 0.3))
        try with([("peer", status)]) { folder, daemons in
            daemons[0].tell([
                #"{"kind":"round_counted","at_s":3,"round":11,"tokens":43000,"train_loss":2.412,"seconds":3.3,"counted":92,"wasted":7}"#,
                #"{"kind":"processor_taken","at_s":4,"percent":0.5}"#,
                #"{"kind":"round_start_stored","at_s":4,"round":11,"units":"2..<4"}"#,
            ])
            func why(_ words: String) throws -> String {
                try DemoTests.atoll(["why"] + words.split(separator: " ").map(String.init), in: folder).out
            }
            for words in ["the loss", "last round", "micro-batches", "you have given", "training"] {
                let told = try why(words)
                #expect(told.contains("round 11 is sealed: loss 2.412, 3.3 s"), "\(words): \(told)")
            }
            #expect(try why("take the processor").contains("0.5 % of what it asks for is left"))
            let raw = try why("round_start_stored")
            #expect(raw.contains("units 2 to 3") && !raw.contains("..<"), "\(raw)")
        }
    }

    @Test func `limits fit into eighty columns`() throws {
        try with([("peer", FakeDaemon.peer())]) { folder, _ in
            let run = try DemoTests.atoll(["limits"], in: folder)
            #expect(run.out.contains("up_mbps"))
            for line in run.out.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
        }
    }

    @Test func `a low window keeps what is waited for, what was given, what comes next and how to stop`() throws {
        try with([("peer", FakeDaemon.peer(FakeDaemon.working, taken(59, 0.3)))]) { folder, _ in
            let top = try OnTerminal(["top"], columns: 60, lines: 20, in: folder)
            defer { top.end() }
            #expect(top.shows("To stop it: `atoll leave`"), "\(top.text)")
            let text = top.text.replacing(/\u{1B}\[[0-9;]*[A-Za-z]/, with: "")
            for words in ["other programs", "You have given", "Next: ", "^C ends this screen only"] {
                #expect(text.contains(words), "\(words): \(text)")
            }
            #expect(!text.contains("^C here"))
        }
        let node = FakeDaemon.peer(["name": "mole", "computes": false])
        try with([("node", node), ("peer", FakeDaemon.peer(FakeDaemon.working))]) { folder, _ in
            let top = try OnTerminal(["top"], columns: 60, lines: 20, in: folder)
            defer { top.end() }
            #expect(top.shows("To stop one: `atoll leave --data DIR`"), "\(top.text)")
            let text = top.text
            let (peer, other) = (text.firstRange(of: "den in "), text.firstRange(of: "mole in "))
            #expect(peer != nil && other != nil && peer!.lowerBound < other!.lowerBound, "\(text)")
            #expect(text.contains("You have given"), "\(text)")
        }
    }

    @Test(
        arguments: [
            (["status"], 1, "no daemon runs", nil), (["leave"], 1, "no daemon runs", nil),
            (["drain"], 1, "no daemon runs", nil), (["launch", "nope.yaml"], 2, "there is no job file nope.yaml", nil),
            (["launch", "nope.yaml", "--seed", "x"], 2, "--seed", nil),
            (["peer", "--invite", "nope.yaml"], 2, "nope.yaml", "INV-001"),
        ] as [([String], Int, String, String?)])
    func `what fails is JSON where JSON is asked for`(
        words: [String], exit: Int, sentence: String, code: String?
    ) throws {
        let folder = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let run = try DemoTests.atoll(words + ["--json"], in: folder)
        #expect(Int(run.code) == exit && run.out.first == "{" && !run.error.isEmpty, "\(run.out) \(run.error)")
        let object = try JSONSerialization.jsonObject(with: Data(run.out.utf8)) as? [String: Any]
        let error = try #require(object?["error"] as? [String: Any])
        #expect(error["exit_code"] as? Int == exit)
        #expect((error["sentence"] as? String)?.contains(sentence) == true, "\(error)")
        if let code { #expect(error["code"] as? String == code, "\(error)") }
    }
}
