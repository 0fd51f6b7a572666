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

    @Test func `says since when nothing moves in its job, and for whom that waits`() throws {
        func working(_ more: [String: Any]) -> [String: Any] { FakeDaemon.working.merging(more) { $1 } }
        let still: [String: Any] = [
            "standstill": [
                "seconds": 41.0, "waits_for": ["bo, who has left"], "what": "what nobody else here holds",
            ] as [String: Any]
        ]
        let told = try said(["status"], of: FakeDaemon.peer(working(still)))
        #expect(
            told.contains(
                "Nothing has moved here for 41 s: it waits for bo, who has left (what nobody else here holds)."),
            "\(told)")
        #expect(try said(["why"], of: FakeDaemon.peer(working(still))).contains("it waits for bo, who has left"))
        // Its owner keeps it from working: that is why, and it is said.
        let paused: [String: Any] = [
            "limits": [
                "mode": "hold", "unseen": [[String: Any]](), "cpu_percent": 100.0, "is_lowest_priority": true,
                "reasons": [
                    [
                        "limit": "owner", "why": "its owner paused it", "seconds": 3.0, "until": "`atoll resume`",
                    ] as [String: Any]
                ],
                "values": [["key": "hand_over_after_s", "value": "5", "meaning": "x"]], "month": 202_611,
                "month_sent_bytes": 0, "month_received_bytes": 0,
            ] as [String: Any]
        ]
        let held = try said(["status"], of: FakeDaemon.peer(working(still), paused))
        #expect(!held.contains("Nothing has moved"), "\(held)")
        #expect(held.contains("keeps its job: its owner paused it 3 s ago; `atoll resume` ends that."), "\(held)")
        // And what a pause costs is said where it is asked for.
        let pause = try said(["pause"], of: FakeDaemon.peer(working([:]), paused))
        #expect(pause.contains("It keeps its place in the job for 5 s") && pause.contains("`atoll drain`"), "\(pause)")
        let waiting = try said(
            ["status"], of: FakeDaemon.peer(working(["state": "waiting", "unheard_seconds": 75.0])))
        #expect(waiting.contains("Nothing has been heard of the launcher of the job (77aa10ff) for 75 s"), "\(waiting)")
        let stopped = try said(
            ["status"],
            of: FakeDaemon.peer(working(["state": "waiting", "unheard_seconds": 9.0, "is_leader_stopped": true])))
        #expect(
            stopped.contains("The launcher of the job (77aa10ff) has stopped the job 9 s ago for now"), "\(stopped)")
        for word in ["leader", "lease", " term ", "epoch"] {
            for text in [told, held, waiting] { #expect(!text.contains(word), "\(word): \(text)") }
        }
    }

    @Test func `a node says why it computes nothing, and a number is never broken`() throws {
        let node = try said(["why"], of: FakeDaemon.peer(["name": "mole", "computes": false]))
        #expect(node.contains("mole is a node: it computes nothing") && !node.contains("no launcher"), "\(node)")
        let given = ["jobs": 2, "counted": 1_234_567, "late": 0, "lost": 0, "superseded": 0]
        try with([("peer", FakeDaemon.peer([:], ["given": given]))]) { folder, _ in
            for columns in 24..<44 as Range<UInt16> {
                let status = try OnTerminal(["status"], columns: columns, lines: 40, in: folder)
                status.process.waitUntilExit()
                Thread.sleep(forTimeInterval: 0.1)
                let lines = status.text.split(separator: "\n")
                #expect(lines.count > 5, "\(status.text)")
                for line in lines { #expect(line.count <= columns, "\(line)") }
                #expect(
                    status.text.contains("1 234 567 micro-batches") || status.text.contains("1 234 567\n"),
                    "\(status.text)")
            }
        }
    }

    /// Of several daemons a command would not know which one is meant.
    @Test func `hints name the folder where commands would not find it without, and resume finds who is paused`() throws
    {
        let paused: [String: Any] = [
            "limits": [
                "mode": "away", "unseen": [[String: Any]](), "cpu_percent": 100.0, "is_lowest_priority": true,
                "reasons": [
                    ["limit": "owner", "why": "its owner paused it", "seconds": 9.0, "until": "`atoll resume`"]
                        as [String: Any]
                ],
                "values": [[String: Any]](), "month": 202_611, "month_sent_bytes": 0, "month_received_bytes": 0,
            ] as [String: Any]
        ]
        let (one, two) = (FakeDaemon.peer(["name": "one"]), FakeDaemon.peer(["name": "two"], paused))
        try with([("peer", one), ("peer-2", two)]) { folder, daemons in
            // As a daemon has it.
            let locks = daemons.map { open($0.folder.path + "/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600) }
            defer { for lock in locks { close(lock) } }
            for lock in locks { try #require(flock(lock, LOCK_EX | LOCK_NB) == 0) }
            let status = try DemoTests.atoll(["status"], in: folder)
            let place = daemons[1].folder.path
            #expect(status.out.contains("--data"), "\(status.out)")
            let refused = try DemoTests.atoll(["pause"], in: folder)
            #expect(
                refused.code == 2 && refused.error.contains("`atoll pause --data \(place)` (two)"), "\(refused.error)")
            #expect(refused.error.contains("(one)"))
            let resumed = try DemoTests.atoll(["resume"], in: folder)
            #expect(resumed.code == 0 && resumed.out.contains("two"), "\(resumed.out) \(resumed.error)")
        }
        try with([("peer", one)]) { folder, _ in
            let status = try DemoTests.atoll(["status"], in: folder)
            #expect(!status.out.contains("--data"))
        }
    }

    @Test(arguments: ["foo", "statsu"]) func `help of what is no command is a mistake, and says so`(word: String) throws
    {
        let folder = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let run = try DemoTests.atoll(["help", word], in: folder)
        #expect(run.code == 2 && run.out.isEmpty && run.error.contains("there is no command \(word)"), "\(run.error)")
        #expect(word != "statsu" || run.error.contains("did you mean status?"))
        #expect(try DemoTests.atoll(["help", "status"], in: folder).code == 0)
        #expect(try DemoTests.atoll(["help", "MEM-001"], in: folder).code == 0)
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
