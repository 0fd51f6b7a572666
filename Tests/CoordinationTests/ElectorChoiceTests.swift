import Coordination
import Digests
import JobFixtures
import Primitives
import Testing

/// Which machines are to carry a record, by what is seen of them.
@Suite struct `A choice of electors` {
    private typealias Candidate = ElectorChoice.Candidate
    private static let launcher = ElectorChoice.Candidate(Small.launcher.peerID, name: "launcher")
    private func peer(
        _ number: Int, network: UInt8, trip: Int64 = 20, disk: Int64? = 5, isReachable: Bool = true, uptime: Double = 1
    ) -> ElectorChoice.Candidate {
        ElectorChoice.Candidate(
            Small.peer(number), name: "peer-\(number)", network: [10, 0, network], roundTrip: .milliseconds(trip),
            disk: disk.map { .milliseconds($0) }, isReachable: isReachable, uptime: uptime)
    }
    private func chosen(
        _ able: [ElectorChoice.Candidate], asked: Int? = 3, seated: [ElectorChoice.Candidate] = [launcher],
        seen: (time: Duration, share: Double) = (.seconds(60), 1)
    ) -> (names: Set<String>, why: String)? {
        let choice = ElectorChoice(asked: asked, seated: seated, able: able, seen: seen)
        guard let (peers, why) = choice.choose() else { return nil }
        let all = seated + able
        return (Set(peers.compactMap { peer in all.first { $0.peer == peer }?.name }), why.joined(separator: "; "))
    }

    @Test func `takes other networks first, then who costs an entry the least time, and says why`() throws {
        let pool = [peer(1, network: 1, trip: 5), peer(2, network: 1, trip: 8), peer(3, network: 2, trip: 90)]
        let (names, why) = try #require(chosen(pool))
        #expect(names == ["launcher", "peer-1", "peer-3"])
        #expect(why.contains("peer-1 is 5.0 ms away, its disk answers in 5.0 ms") && why.contains("in another network"))
        // A disk that is slow costs as much as a line that is; so does being away.
        for worse in [
            peer(1, network: 1, trip: 5, disk: 800), peer(1, network: 1, trip: 700),
            peer(1, network: 1, trip: 5, uptime: 0.9),
        ] {
            #expect(try #require(chosen([worse, pool[1], pool[2]])).names == ["launcher", "peer-2", "peer-3"])
        }
    }

    /// It is always on, and nothing else keeps its disk and processor busy.
    @Test func `takes nodes first, unless they are unfit`() throws {
        var node = peer(9, network: 1, trip: 300)
        node.isKeeper = true
        let pool = [peer(1, network: 2, trip: 5), peer(2, network: 3, trip: 8), node]
        let (names, why) = try #require(chosen(pool))
        #expect(names == ["launcher", "peer-9", "peer-1"])
        #expect(why.contains("peer-9 is 300.0 ms away, its disk answers in 5.0 ms, there to carry records"))
        node.isReachable = false
        #expect(try #require(chosen(Array(pool.prefix(2)) + [node])).names == ["launcher", "peer-1", "peer-2"])
    }

    @Test func `takes machines that nobody can reach, or whose disk needs a second, last`() throws {
        let bad = [peer(1, network: 1, trip: 1, isReachable: false), peer(2, network: 2, trip: 1, disk: 1500)]
        let good = [peer(3, network: 1, trip: 300, disk: nil), peer(4, network: 1, trip: 400)]
        #expect(try #require(chosen(bad + good)).names == ["launcher", "peer-3", "peer-4"])
        // Asked for, they are better than none; of itself it takes none of them.
        #expect(try #require(chosen(bad)).names.count == 3)
        #expect(chosen(bad, asked: nil) == nil)
    }

    @Test func `takes as many as are asked for, or as what is seen asks for`() throws {
        let pool = (1...6).map { peer($0, network: UInt8($0)) }
        func count(_ asked: Int?, among: Int, seen: (Duration, Double) = (.seconds(60), 1)) -> Int {
            chosen(Array(pool.prefix(among)), asked: asked, seen: seen)?.names.count ?? 1
        }
        #expect((0...6).map { count(3, among: $0) } == [1, 1, 3, 3, 3, 3, 3])
        // Four for the sake of a quorum of three: where there are so many, and else three.
        #expect((0...6).map { count(4, among: $0) } == [1, 1, 3, 4, 4, 4, 4])
        #expect((0...6).map { count(5, among: $0) } == [1, 1, 3, 3, 5, 5, 5])
        #expect((0...6).map { count(nil, among: $0) } == [1, 1, 3, 3, 3, 3, 3])
        // Members that come and go: five, when enough is seen of them.
        #expect(count(nil, among: 6, seen: (.seconds(3000), 0.9)) == 5)
        #expect(count(nil, among: 6, seen: (.seconds(3000), 0.96)) == 3)
        #expect(count(nil, among: 6, seen: (.seconds(300), 0.5)) == 3)
    }

    @Test func `leaves those who have a seat where they are`() throws {
        let seats = [Self.launcher, peer(1, network: 1, trip: 900), peer(2, network: 1, trip: 900)]
        #expect(chosen([peer(3, network: 3, trip: 1)], seated: seats) == nil)
        #expect(try #require(chosen([peer(3, network: 3)], asked: 4, seated: seats)).names.count == 4)
        #expect(try #require(chosen([peer(3, network: 3)], seated: Array(seats.dropLast()))).names.contains("peer-3"))
    }
}

@Suite struct `How long somebody was here` {
    @Test func `counts from when somebody came first`() {
        var one = Attendance()
        one.turn(isHere: false, at: .zero + .seconds(5))
        #expect(one.seen(at: .zero + .seconds(50)).share == 1 && one.seen(at: .zero + .seconds(50)).time == .zero)
        one.turn(isHere: true, at: .zero + .seconds(100))
        one.turn(isHere: false, at: .zero + .seconds(130))
        one.turn(isHere: true, at: .zero + .seconds(140))
        let seen = one.seen(at: .zero + .seconds(200))
        #expect(seen.time == .seconds(100) && abs(seen.share - 0.9) < 1e-12)
    }
}
