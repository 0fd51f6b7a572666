import Daemon
import Foundation
import Membership
import Messages
import Node
import Primitives
import Telemetry
import Testing
import Training

/// What a page is told stays within bounds, however long it goes on and whatever is said, and is enough for whoever looks later.
@Suite struct `What the dashboard is told` {
    private func at(_ seconds: Double) -> Instant { Instant(seconds: seconds) }
    private func parsed(_ records: [String]) throws -> [[Any]] {
        try records.map {
            try #require(
                try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [Any], "no JSON list: \($0.prefix(200))")
        }
    }
    private func peer(_ n: Int, _ doing: String) -> DashboardFeed.Peer {
        var peer = DashboardFeed.Peer(name: "peer-\(n)")
        (peer.doing, peer.rank, peer.stage, peer.stages) = (doing, n / 4, n % 4, 4)
        return peer
    }
    private func sealed(_ round: Int) -> Happening {
        .roundSealed(
            round: round, steps: 8 * (round + 1), tokens: 1, trainLoss: 2, validationLoss: 3, pipelines: 1, seconds: 1,
            predictedSeconds: 1)
    }

    @Test func `of hours of 256 peers a snapshot has the last rounds, events and changes, and no more`() throws {
        var feed = DashboardFeed(since: .zero)
        for round in 0..<5000 {
            let now = at(Double(round))
            for n in 0..<256 { feed.see(peer(n, "step \(round % 8)/8 of \(n % 3)"), at: now) }
            feed.settle(at: now)
            feed.hear(Event(sealed(round), at: now), sentence: nil)
            feed.hear(Event(.peerLost(why: "silent"), at: now, peer: "peer-1"), sentence: "lost peer-1")
            // Whoever looks is handed what is new, and it is not kept for them.
            if round % 7 == 0 { _ = feed.take() }
        }
        #expect(feed.take().count < 7 * (3 + 3 + 2))
        let all = try parsed(feed.snapshot(at: at(5000)))
        func count(_ kind: String) -> Int { all.count { $0[0] as? String == kind } }
        let rounds = all.filter { $0[0] as? String == "r" }
        #expect((DashboardFeed.mostRounds...DashboardFeed.mostRounds + 64).contains(rounds.count))
        #expect((rounds.last?[2] as? [String: Any])?["round"] as? Int == 4999, "the newest is there")
        #expect((DashboardFeed.mostMarks...DashboardFeed.mostMarks + 64).contains(count("k")))
        let changes = all.filter { $0[0] as? String == "a" }.reduce(0) { $0 + (($1[3] as? [Int])?.count ?? 0) }
        #expect((DashboardFeed.mostActs - 256...DashboardFeed.mostActs * 9 / 8 + 256).contains(changes), "\(changes)")
        #expect(count("p") == 256 && count("z") == 1 && count("m") == 1)
        #expect(feed.snapshot(at: at(5000)).reduce(0) { $0 + $1.utf8.count } < 1_000_000)
    }

    /// A peer in one job, connected to colleagues by name, and to others.
    private func seen(job: String?, round: Int, step: Int, loss: Double, connected: [String?]) throws -> DaemonStatus {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        var member: [String: Any] = [
            "name": "ada", "memory_mebibytes": 64, "state": job == nil ? "free" : "working", "doing": "step 1/4",
            "accepts": [String](), "leader": "cdcdcdcd",
        ]
        if let job {
            member["job"] = job
            member["job_name"] = job
            (member["round"], member["step"]) = (round, step)
            member["work"] =
                [
                    "rank": 0, "stage": 0, "stages": 1, "parameters": 9, "tokens": 512 * round,
                    "tokens_total": 2048,
                    "steps_done": 4 * round, "steps_total": 16, "train_loss": loss, "round_seconds": 2.0,
                    "micro_batches": [
                        "counted": 0, "late": 0, "lost": 0, "superseded": 0, "under_way": 0, "rounds": 0,
                    ],
                ] as [String: Any]
        }
        let connections = connected.enumerated().map { number, name -> [String: Any] in
            var one: [String: Any] = ["peer": "\(number)\(number)", "endpoint": "192.0.2.1:1"]
            one["name"] = name
            return one
        }
        return try decoder.decode(
            DaemonStatus.self,
            from: try JSONSerialization.data(withJSONObject: [
                "id": "ab", "connections": connections, "member": member,
                "overlay": ["is_joined": true, "contacts": 1, "is_reachable": true, "berths": [String]()],
            ]))
    }

    /// A peer in one job after the other, beside a node that is in none.
    @Test func `a peer's page begins anew with another job, counts steps as they are, and its colleagues alone`() throws
    {
        var picture = DashboardPicture(since: .zero, manifest: nil)
        func look(_ second: Double, _ daemon: DaemonStatus) {
            picture.look(.init(daemon: daemon, view: JobView(), coordinator: nil, now: []), at: at(second))
        }
        for round in 0...3 {
            // Within a round the step is ahead of what is sealed.
            look(
                Double(round),
                try seen(job: "one", round: round, step: 4 * round + 2, loss: 5, connected: ["bo", nil, "cy"]))
        }
        func told() throws -> (rounds: [[String: Any]], fields: [String: Any], peers: [[String: Any]]) {
            let all = try parsed(picture.feed.snapshot(at: at(99)))
            func of(_ kind: String, _ place: Int) -> [[String: Any]] {
                all.filter { $0[0] as? String == kind }.compactMap { $0[place] as? [String: Any] }
            }
            return (of("r", 2), of("m", 2).first ?? [:], of("p", 3))
        }
        let first = try told()
        #expect(first.rounds.map { $0["steps"] as? Int } == [4, 4, 4], "\(first.rounds)")
        #expect(first.fields["step"] as? Int == 14 && first.fields["steps"] as? Int == 16)
        #expect(first.peers.filter { $0["outside"] == nil }.map { $0["name"] as? String } == ["ada", "bo", "cy"])
        look(5, try seen(job: nil, round: 0, step: 0, loss: 0, connected: [nil]))
        #expect(try told().rounds.count == 3, "what the last job came to stays until there is another")
        _ = picture.take()
        look(6, try seen(job: "two", round: 0, step: 1, loss: 9, connected: ["bo"]))
        look(7, try seen(job: "two", round: 1, step: 5, loss: 4, connected: ["bo"]))
        let second = try told()
        #expect(second.rounds.count == 1 && second.rounds[0]["loss"] as? Double == 4, "\(second.rounds)")
        let gone = second.peers.filter { $0["standing"] as? String == "gone" }
        #expect(gone.allSatisfy { $0["outside"] as? Bool == true } && gone.contains { $0["name"] as? String == "cy" })
        // Whoever looks already is told to forget.
        #expect(try parsed(picture.take()).first?[0] as? String == "z")
    }

    @Test func `peers beyond a thousand, and lines beyond sixteen thousand, are left out`() throws {
        var feed = DashboardFeed(since: .zero)
        for n in 0..<3000 { feed.see(peer(n, "waits"), at: .zero) }
        feed.settle(at: .zero)
        let lines = (0..<40_000).map { n in
            DashboardFeed.Line(a: "peer-\(n % 1000)", b: "peer-\((n * 7 + 1) % 1000)", milliseconds: Double(n))
        }
        feed.see(lines, at: .zero)
        let all = try parsed(feed.snapshot(at: .zero))
        #expect(all.count { $0[0] as? String == "p" } == DashboardFeed.mostPeers)
        let shown = try #require(all.first { $0[0] as? String == "l" }?[2] as? [[Any]])
        #expect(shown.count == DashboardFeed.mostLines)
        let acts = all.filter { $0[0] as? String == "a" }
        #expect(acts.count == 1 && (acts[0][3] as? [Int])?.count == DashboardFeed.mostPeers)
    }

    @Test func `a file stops with what stages did, says so, and goes on with the rest`() throws {
        var feed = DashboardFeed(since: .zero, keepsAll: true)
        let turns = DashboardFeed.mostActsInFile / 1000 + 20
        for turn in 0..<turns {
            for n in 0..<1000 { feed.see(peer(n, turn % 2 == 0 ? "validating" : "exchanging"), at: at(Double(turn))) }
            feed.settle(at: at(Double(turn)))
        }
        feed.hear(Event(sealed(0), at: at(1000)), sentence: nil)
        let acts = try parsed(feed.all.filter { $0.hasPrefix("[\"a\"") })
        let told = acts.reduce(0) { $0 + (($1[3] as? [Int])?.count ?? 0) }
        #expect(told >= DashboardFeed.mostActsInFile && told <= DashboardFeed.mostActsInFile + 1024)
        // From then on nothing is claimed about what anybody does.
        #expect(acts.last?[2] as? String == "" && (acts.last?[3] as? [Int])?.count == 1000)
        #expect(acts.count == DashboardFeed.mostActsInFile / 1000)
        #expect(feed.all.last?.hasPrefix("[\"r\"") == true)
    }

    /// Each second of a day a peer has sent more and its round trip differs.
    @Test(arguments: [false, true]) func `figures that differ each second are told now and then`(keepsAll: Bool) throws
    {
        var feed = DashboardFeed(since: .zero, keepsAll: keepsAll)
        var records: [String] = []
        for second in 0..<86_400 {
            for n in 0..<2 {
                var one = peer(n, "")
                (one.sentBytes, one.roundTripMilliseconds) = (1000 * second + n + 1, Double(second % 50) + 1)
                feed.see(one, at: at(Double(second)))
            }
            feed.settle(at: at(Double(second)))
            if !keepsAll { records += feed.take() }
        }
        if keepsAll { records = feed.all }
        let figures = try parsed(records.filter { $0.hasPrefix("[\"v\"") })
        #expect(records.count { $0.hasPrefix("[\"p\"") } == 2, "who it is and where has not changed")
        #expect(keepsAll ? figures.count < 1200 : (17_000...17_300).contains(figures.count), "\(figures.count)")
        let last = try #require((figures.last?[2] as? [[Any]])?.first)
        #expect(last[0] as? Int == 0 && (last[2] as? Int ?? 0) > 40_000_000)
        // Whoever comes later is told the newest at once.
        let late = try parsed(feed.snapshot(at: at(86_400)).filter { $0.hasPrefix("[\"v\"") })
        #expect((late.first?[2] as? [[Any]])?.first?[2] as? Int == 86_399_001)
    }

    @Test func `only what has changed of the job is told, and what is gone`() throws {
        var feed = DashboardFeed(since: .zero)
        feed.see([("title", "\"a\""), ("step", "1"), ("left", "9")], at: .zero)
        feed.see([("title", "\"a\""), ("step", "1"), ("left", "9")], at: at(1))
        feed.see([("title", "\"a\""), ("step", "2")], at: at(2))
        #expect(
            feed.take() == [
                #"["m",0.000,{"title":"a","step":1,"left":9}]"#, #"["m",2.000,{"step":2,"left":null}]"#,
            ])
        #expect(feed.snapshot(at: at(3))[1] == #"["m",3.000,{"title":"a","step":2}]"#)
    }

    /// Of a connected peer the key is known first, and its name when it is in the job here; and two may call themselves the same.
    @Test func `a peer that is known by its key stays one when its name is heard`() throws {
        var feed = DashboardFeed(since: .zero)
        var peers = ["374a712d", "aedf7fe2"].map { DashboardFeed.Peer(name: $0) }
        for peer in peers { feed.see(peer, at: .zero) }
        for place in peers.indices { peers[place].label = "bea" }
        for peer in peers { feed.see(peer, at: at(1)) }
        let told = try parsed(feed.take()).filter { $0[0] as? String == "p" }
        #expect(told.map { $0[2] as? Int } == [0, 1, 0, 1])
        #expect(
            told.map { ($0[3] as? [String: Any])?["name"] as? String } == ["374a712d", "aedf7fe2", "bea", "bea"])
    }

    /// Whatever others call themselves, and however much they say, it stays a text of bounded length in a record.
    @Test func `names and reasons of others are quoted, and long ones are cut`() throws {
        var feed = DashboardFeed(since: .zero)
        let name = "</script><img src=x onerror=alert(1)>\"\\\u{1b}[2J\u{2028}\n"
        feed.see(DashboardFeed.Peer(name: name), at: .zero)
        feed.settle(at: .zero)
        feed.hear(
            Event(.peerLost(why: String(repeating: "x", count: 100_000)), at: .zero, peer: name),
            sentence: "lost \(name)")
        let records = feed.take()
        let all = try parsed(records)
        #expect((all.first { $0[0] as? String == "p" }?[3] as? [String: Any])?["name"] as? String == name)
        #expect(records.allSatisfy { $0.utf8.count < 10_000 && !$0.contains("\n") && !$0.contains("\u{1b}") })
        let page = DashboardPage.file(records)
        #expect(page.components(separatedBy: "</script>").count == 3 && !page.contains("<img"))
    }

    private func trace(_ steps: Int, from begin: Double) -> StepTrace {
        var trace = StepTrace()
        for step in 0..<steps {
            let t = begin + Double(step)
            let key = MicroBatchKey(step: step, virtualPipeline: 0, index: 0)
            trace.note(.forward(key, input: []), from: at(t), to: at(t + 0.25))
            trace.note(.backward(key, gradient: []), from: at(t + 0.25), to: at(t + 0.75))
            trace.note(.evaluate(windows: 0..<1, input: []), from: at(t), to: at(t + 0.1))
            trace.note(.optimizerStep(norm: 1, learningRate: 1), from: at(t + 0.75), to: at(t + 0.875))
        }
        return trace
    }

    @Test func `of steps that are over the pieces are kept as they were computed, of the last few`() throws {
        let steps = trace(20, from: 5)
        #expect(steps.done.map(\.step) == [15, 16, 17, 18], "the one under way is not over")
        #expect(steps.step(18)?.spans.map(\.kind) == [.forward, .backward, .update] && steps.step(3) == nil)
        // A step that is begun anew is what it was the second time.
        var again = trace(2, from: 0)
        let key = MicroBatchKey(step: 0, virtualPipeline: 0, index: 0)
        again.note(.forward(key, input: []), from: at(9), to: at(10))
        again.note(.forward(MicroBatchKey(step: 1, virtualPipeline: 0, index: 0), input: []), from: at(11), to: at(12))
        #expect(again.done.map(\.step) == [0, 0] && again.step(0)?.spans.map(\.from) == [at(9)])
        // One of very many pieces is not kept.
        var long = StepTrace()
        for index in 0..<600 {
            long.note(
                .forward(MicroBatchKey(step: 0, virtualPipeline: 0, index: index), input: []), from: .zero, to: .zero)
        }
        long.note(.forward(MicroBatchKey(step: 1, virtualPipeline: 0, index: 0), input: []), from: .zero, to: .zero)
        #expect(long.done.isEmpty)
    }

    @Test(arguments: [false, true]) func `steps are told now and then, and of a file only so many`(keepsAll: Bool)
        throws
    {
        var feed = DashboardFeed(since: .zero, keepsAll: keepsAll)
        for n in 0..<4 { feed.see(peer(n, ""), at: .zero) }
        let kept = try #require(trace(3, from: 10).done.last)
        var told = 0
        for second in 0..<20_000 where feed.wantsSteps(at: at(Double(second))) {
            feed.see((0..<4).map { (peer: "peer-\($0)", step: kept) }, at: at(Double(second)))
            told += 1
        }
        #expect(keepsAll ? told < 250 : told == 4000, "\(told)")
        let record = #"["b",0.000,3,1,11.0000,[["fw",0.0000,0.2500],["bw",0.2500,0.7500],["uw",0.7500,0.8750]]]"#
        #expect(feed.take().contains(record))
        // Whoever comes later gets the newest of each.
        #expect(feed.snapshot(at: at(9)).count { $0.hasPrefix("[\"b\"") } == (keepsAll ? 0 : 4))
        var full = DashboardFeed(since: .zero, keepsAll: true)
        full.see(peer(0, ""), at: .zero)
        let long = StepTrace.Step(
            step: 1, spans: Array(repeating: kept.spans[0], count: DashboardFeed.mostSpansInFile))
        full.see([(peer: "peer-0", step: long)], at: .zero)
        #expect(!full.wantsSteps(at: at(1e6)))
        // Of somebody who is not known nothing is told.
        full.see([(peer: "nobody", step: kept)], at: .zero)
        #expect(!full.all.contains { $0.contains("nobody") })
    }
}
