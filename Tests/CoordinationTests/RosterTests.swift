import Coordination
import JobFixtures
import Messages
import Primitives
import Record
import Testing

@Suite struct `Who is there` {
    private func capability(_ name: String) -> Capability {
        Capability(name: name, device: "cpu", memory: .mebibytes(64), flops: 1e9, numerics: Record.numerics)
    }
    private func joined(_ numbers: [Int], at now: Instant = .zero) -> Roster {
        var roster = Roster(at: now)
        for number in numbers {
            _ = roster.met(Small.peer(number), at: Small.endpoint(number), now: now)
            roster.says(capability("peer-\(number)"), Small.peer(number))
            _ = roster.accepts(Small.peer(number), at: now)
            roster.joins(Small.peer(number))
        }
        return roster
    }

    @Test func `counts nobody as a worker who only carries records`() {
        var roster = joined([1])
        var node = capability("node")
        node.flops = 0
        _ = roster.met(Small.peer(2), at: Small.endpoint(2), now: .zero)
        roster.says(node, Small.peer(2))
        _ = roster.accepts(Small.peer(2), at: .zero)
        #expect(roster.workerCount == 1 && roster.accepted.count == 1)
        roster.joins(Small.peer(2))
        for number in [1, 2] { roster.isReady(.hasText, Small.peer(number), at: .zero) }
        #expect(roster.joinedCount == 2 && roster.workerCount == 1 && roster.hasWorkers)
        #expect(roster.joined.map(\.isPlannable) == [true, false])
        // What nobody measured is no speed; and a machine may be given to both.
        roster.measures(0, Small.peer(1))
        roster.measures(1e9, Small.peer(2))
        #expect(roster.joined.map(\.isPlannable) == [true, true])
        roster.measures(0, Small.peer(2))
        #expect(roster.workerCount == 2)
        roster.loses(Small.peer(1), why: "gone")
        roster.loses(Small.peer(2), why: "gone")
        #expect(!roster.hasWorkers && roster.workerCount == 0)
    }

    @Test func `counts what members have sent for the job, and of that all`() {
        var roster = joined([1, 2])
        func beat(_ number: Int, _ bytes: Int) {
            var heartbeat = Heartbeat()
            heartbeat.sent = ByteCount(bytes)
            roster.beats(heartbeat, Small.peer(number), at: .zero)
        }
        // What a process has sent before it joined is of another job.
        beat(1, 1_000_000)
        beat(2, 0)
        #expect(roster.sentBytes == 0)
        beat(1, 1_000_300)
        beat(2, 50)
        #expect(roster[Small.peer(1)]?.sentBytes == 300 && roster.sentBytes == 350)
        // Who leaves has sent it all the same; and what it sends while it is away is not for the job.
        roster.loses(Small.peer(1), why: "gone")
        #expect(roster.sentBytes == 350)
        _ = roster.accepts(Small.peer(1), at: .zero)
        roster.joins(Small.peer(1))
        beat(1, 1_900_000)
        beat(1, 1_900_007)
        #expect(roster.sentBytes == 357)
        // Another process begins from nothing.
        beat(2, 20)
        beat(2, 30)
        #expect(roster.sentBytes == 387)
        // The last word of whoever is a member at the end counts, and of nobody else.
        var last = Heartbeat()
        last.sent = ByteCount(130)
        roster.concludes(last, Small.peer(2))
        roster.concludes(last, Small.peer(7))
        #expect(roster.sentBytes == 487)
    }

    @Test func `does not take what went with void seals for what could not be read`() {
        var roster = joined([1])
        let (peer, units) = (Small.peer(1), 0..<3)
        roster.keeps(
            [
                KeptStage(round: 1, rank: 0, units: units, epoch: 1),
                KeptStage(round: 2, rank: 0, units: units, epoch: 1),
            ], peer, round: 3)
        // The log goes back to round 1: the file of round 2 is of what never was.
        roster.keeps([KeptStage(round: 1, rank: 0, units: units, epoch: 1)], peer, round: 1)
        #expect(roster.mayHave(0, round: 2, peer, at: .zero))
        // The other one it could not read.
        roster.keeps([], peer, round: 1)
        #expect(!roster.mayHave(0, round: 1, peer, at: .zero))
        roster.forgetWithdrawn()
        #expect(roster.mayHave(0, round: 1, peer, at: .zero))
    }

    @Test func `knows who had to fetch the start of a round`() {
        var roster = joined([1])
        let peer = Small.peer(1)
        roster.isReady(.atRound(epoch: 1, round: 3), peer, at: .zero)
        #expect(!roster.hasFetched(3, peer) && !roster.hasFetched(3, Small.peer(2)))
        roster.isReady(.fetchingState(epoch: 1), peer, at: .zero)
        #expect(roster.hasFetched(4, peer))
        roster.isReady(.atRound(epoch: 1, round: 4), peer, at: .zero)
        #expect(roster.hasFetched(4, peer))
        roster.isReady(.atRound(epoch: 1, round: 5), peer, at: .zero)
        #expect(!roster.hasFetched(5, peer))
    }

    /// Any sequence of what peers do: standings change as this table says, and in no other way.
    @Test(arguments: 0..<20 as Range<UInt64>)
    func `changes as it may`(seed: UInt64) {
        var generator = SeededGenerator(seed: seed, stream: 12)
        var roster = Roster(at: .zero)
        var model: [Int: (standing: Standing, hasSpoken: Bool)] = [:]
        var order: [Int] = []
        var now = Instant.zero
        func mayJoin(_ number: Int) -> Bool {
            switch model[number]?.standing {
            case nil, .accepted, .joined: false
            case .met, .declined, .lost: true
            }
        }
        for _ in 0..<400 {
            let number = generator.below(6)
            let peer = Small.peer(number)
            now += .milliseconds(100)
            switch generator.below(7) {
            case 0:
                let asks = roster.met(peer, at: Small.endpoint(number), now: now)
                if model[number] == nil {
                    model[number] = (.met, false)
                    order.append(number)
                    #expect(asks)
                } else {
                    #expect(asks == mayJoin(number))
                }
            case 1:
                roster.says(capability("x"), peer)
                if model[number] != nil { model[number]!.hasSpoken = true }
            case 2:
                let isNews = roster.accepts(peer, at: now)
                #expect(isNews == (mayJoin(number) && model[number]!.hasSpoken))
                if isNews { model[number]!.standing = .accepted }
            case 3:
                // Only who has accepted is written into the log.
                guard case .accepted? = model[number]?.standing else { continue }
                roster.joins(peer)
                model[number]!.standing = .joined
            case 4:
                roster.loses(peer, why: "gone")
                if model[number] != nil { model[number]!.standing = .lost("gone") }
            case 5:
                guard mayJoin(number) else { continue }
                roster.declines(peer, why: "no", at: now)
                model[number]!.standing = .declined("no")
            default:
                let asks = roster.mayAskAgain(peer, at: now)
                if asks { #expect(model[number]?.standing == .lost("gone")) }
            }
            #expect(roster[peer]?.standing == model[number]?.standing)
            #expect(roster.order == order.map { Small.peer($0) })
            #expect(roster.joined.map(\.peer) == order.filter { model[$0]!.standing == .joined }.map { Small.peer($0) })
            #expect(
                roster.accepted.map(\.peer) == order.filter { model[$0]!.standing == .accepted }.map { Small.peer($0) })
        }
        // Nobody has another's name.
        let names = roster.all.filter { $0.capability != nil }.map(\.name)
        #expect(Set(names).count == names.count)
    }

    @Test func `asks somebody who was given up every five seconds`() {
        var roster = joined([1])
        roster.loses(Small.peer(1), why: "gone")
        var asked: [Int] = []
        for second in 0..<20 where roster.mayAskAgain(Small.peer(1), at: .zero + .seconds(Int64(second))) {
            asked.append(second)
        }
        #expect(asked == [0, 5, 10, 15])
    }

    @Test func `asks somebody who declined after five seconds, then twice as long each time, at most a minute`() {
        var roster = joined([])
        _ = roster.met(Small.peer(1), at: Small.endpoint(1), now: .zero)
        roster.says(capability("a"), Small.peer(1))
        let isNews = roster.declines(Small.peer(1), why: "busy", at: .zero)
        #expect(isNews)
        var asked: [Int] = []
        for second in 0..<240 {
            let now = Instant.zero + .seconds(Int64(second))
            guard roster.declinersToAskAgain(at: now) == [Small.peer(1)] else { continue }
            asked.append(second)
            let isNews = roster.declines(Small.peer(1), why: "busy", at: now)
            #expect(!isNews)
        }
        #expect(asked == [5, 15, 35, 75, 135, 195])
        _ = roster.accepts(Small.peer(1), at: .zero + .seconds(240))
        let others = roster.declinersToAskAgain(at: .zero + .seconds(999))
        #expect(others.isEmpty)
    }

    @Test func `forgets the lost before it takes no more`() {
        var roster = Roster(at: .zero)
        let peers = (0..<Roster.most + 10).map { number in
            PeerID([UInt8](repeating: UInt8(number & 255), count: 31) + [UInt8(number >> 8)])!
        }
        for peer in peers.prefix(Roster.most) { #expect(roster.met(peer, at: Small.endpoint(1), now: .zero) == true) }
        roster.says(capability("a"), peers[0])
        _ = roster.accepts(peers[0], at: .zero)
        for peer in peers.suffix(10) { #expect(roster.met(peer, at: Small.endpoint(1), now: .zero) == true) }
        #expect(roster.order.count == Roster.most)
        #expect(roster[peers[0]] != nil && roster[peers[1]] == nil)
    }

    @Test func `one that is silent is noticed in time`() {
        var roster = joined([1, 2])
        let silence = Duration.seconds(5)
        for second in 1...5 { roster.heard(Small.peer(2), at: .zero + .seconds(Int64(second))) }
        let due = roster.nextSilence(silence, at: .zero + .seconds(5))
        #expect(due == Instant.zero + .milliseconds(5001))
        #expect(roster.silent(for: silence, at: .zero + .seconds(5)) == [])
        #expect(roster.silent(for: silence, at: .zero + .milliseconds(5001)) == [Small.peer(1)])
    }

    /// Nobody hears us: each closes its connection when it notices, and the last was heard a moment before the first is overdue.
    @Test func `every connection broken is our own line, too`() {
        let silence = Duration.seconds(5)
        var roster = joined([1, 2, 3])
        let now = Instant.zero + .milliseconds(5100)
        for second in 1...4 { roster.heard(Small.peer(3), at: .zero + .milliseconds(Int64(1225 * second))) }
        for number in 1...2 { roster.interrupted(Small.peer(number)) }
        #expect(!roster.isIsolated(silence: silence, at: now), "one is still connected")
        #expect(roster.silent(for: silence, at: now) == [1, 2].map { Small.peer($0) })
        roster.interrupted(Small.peer(3))
        #expect(roster.isIsolated(silence: silence, at: now) && roster.silent(for: silence, at: now) == [])
        // Somebody who only waits to be taken in is still connected.
        var waiting = roster
        _ = waiting.met(Small.peer(4), at: Small.endpoint(4), now: now)
        waiting.says(capability("d"), Small.peer(4))
        _ = waiting.accepts(Small.peer(4), at: now)
        #expect(!waiting.isIsolated(silence: silence, at: now))
        roster.heard(Small.peer(2), at: now)
        #expect(!roster.isIsolated(silence: silence, at: now))
    }

    @Test func `knows how long members are not heard, but for those who were away`() {
        var roster = joined([1, 2])
        func hear(_ numbers: [Int], _ milliseconds: Int64) {
            for number in numbers { roster.heard(Small.peer(number), at: .zero + .milliseconds(milliseconds)) }
        }
        for second in 1...9 { hear([1, 2], Int64(second) * 1000) }
        #expect(roster.longestGap == nil, "ten seconds have not been seen")
        hear([1], 10_000)
        hear([1, 2], 11_000)
        #expect(roster.longestGap == .seconds(2))
        // Eight seconds are an absence, and so is what lies between two connections.
        for second in 12...18 { hear([1], Int64(second) * 1000) }
        hear([1, 2], 19_000)
        roster.interrupted(Small.peer(2))
        for second in 20...22 { hear([1], Int64(second) * 1000) }
        hear([1, 2], 23_000)
        #expect(roster.longestGap == .seconds(2))
        hear([1, 2], 26_000)
        #expect(roster.longestGap == .seconds(3))
        // After eighty seconds it is forgotten.
        for second in 27...120 { hear([1, 2], Int64(second) * 1000) }
        #expect(roster.longestGap == .seconds(1))
    }

    @Test func `all of them silent at once is our own line`() {
        let silence = Duration.seconds(5)
        var roster = joined([1, 2, 3])
        #expect(!roster.isIsolated(silence: silence, at: .zero + .seconds(5)))
        let now = Instant.zero + .seconds(30)
        #expect(roster.isIsolated(silence: silence, at: now))
        #expect(roster.silent(for: silence, at: now) == [])
        #expect(roster.nextSilence(silence, at: now) == Instant.zero + Roster.isolation + .milliseconds(1))
        // The first of them is heard again: the others get time, too.
        roster.forgive(at: now)
        #expect(roster.silent(for: silence, at: now + .seconds(5)) == [])
        // So much that a dial may fail and be tried again.
        for second in 1...16 { roster.heard(Small.peer(2), at: now + .seconds(Int64(second))) }
        #expect(roster.silent(for: silence, at: now + .seconds(15)) == [])
        #expect(roster.nextSilence(silence, at: now + .seconds(15)) == now + .milliseconds(15_001))
        roster.heard(Small.peer(3), at: now + .seconds(13))
        #expect(roster.silent(for: silence, at: now + .milliseconds(15_001)) == [Small.peer(1)])
        #expect(roster.silent(for: silence, at: .zero + .seconds(500)).count == 3)
        // Also where there is only one: it may be either's line.
        let alone = joined([1])
        #expect(alone.isIsolated(silence: silence, at: now) && alone.silent(for: silence, at: now) == [])
        #expect(alone.silent(for: silence, at: .zero + .seconds(121)) == [Small.peer(1)])
        #expect(!Roster(at: .zero).isIsolated(silence: silence, at: now))
        // Before they have been silent for so long somebody new is heard: who was not heard while nobody was gets time from then on.
        var back = joined([1, 2, 3])
        for number in [1, 2] { back.heard(Small.peer(number), at: .zero + .seconds(1)) }
        back.heard(Small.peer(3), at: .zero + .milliseconds(5800))
        #expect(back.silent(for: silence, at: .zero + .milliseconds(6100)) == [])
        #expect(back.nextSilence(silence, at: .zero + .milliseconds(6100)) == .zero + .milliseconds(10_801))
        for moment in [7800, 9800] as [Int64] { back.heard(Small.peer(3), at: .zero + .milliseconds(moment)) }
        #expect(back.silent(for: silence, at: .zero + .milliseconds(10_801)) == [Small.peer(1), Small.peer(2)])
    }

    @Test func `our line is good where somebody is heard who only waits to be taken in`() {
        let silence = Duration.seconds(5)
        var roster = joined([1])
        _ = roster.met(Small.peer(2), at: Small.endpoint(2), now: .zero)
        let now = Instant.zero + .seconds(6)
        #expect(roster.isIsolated(silence: silence, at: now))
        // All the time, that is: one word after a pause says nothing of our line during the pause.
        for second in 1...5 { roster.heard(Small.peer(2), at: .zero + .seconds(Int64(second))) }
        #expect(!roster.isIsolated(silence: silence, at: now))
        #expect(roster.silent(for: silence, at: now) == [Small.peer(1)])
    }

    /// A lid that was closed: nobody has been silent.
    @Test func `is not blamed for a pause of our own`() {
        var roster = joined([1, 2])
        _ = roster.look(at: .zero + .seconds(1))
        _ = roster.look(at: .zero + .seconds(600))
        #expect(roster.silent(for: .seconds(5), at: .zero + .seconds(604)) == [])
        #expect(!roster.isIsolated(silence: .seconds(5), at: .zero + .seconds(604)))
        for second in 601...606 { _ = roster.look(at: .zero + .seconds(Int64(second))) }
        #expect(roster.isIsolated(silence: .seconds(5), at: .zero + .seconds(606)))
        // The line was still away then: who is not found at once after that has time, too.
        for second in 604...620 { roster.heard(Small.peer(2), at: .zero + .seconds(Int64(second))) }
        #expect(roster.silent(for: .seconds(5), at: .zero + .seconds(619)) == [])
        #expect(roster.silent(for: .seconds(5), at: .zero + .milliseconds(619_001)) == [Small.peer(1)])
    }

    @Test func `knows since when nothing has changed, and the least round trip`() {
        var roster = joined([1])
        let peer = Small.peer(1)
        var heartbeat = Heartbeat()
        heartbeat.activity = .fetchingText(have: 1, of: 9)
        roster.beats(heartbeat, peer, at: .zero + .seconds(1))
        roster.beats(heartbeat, peer, at: .zero + .seconds(2))
        #expect(roster[peer]?.idleSince == Instant.zero + .seconds(1))
        roster.isReady(.hasText, peer, at: .zero + .seconds(3))
        #expect(roster[peer]?.idleSince == Instant.zero + .seconds(3))
        for time in [30, 20, 50] { roster.trip(.milliseconds(Int64(time)), peer) }
        roster.trip(.zero, Small.peer(9))
        #expect(roster[peer]?.roundTrip == .milliseconds(20))
    }
}
