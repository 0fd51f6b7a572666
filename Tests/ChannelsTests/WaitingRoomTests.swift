import Channels
import Primitives
import Testing

private func at(_ seconds: Double) -> Instant { Instant(seconds: 100 + seconds) }
private func home(_ n: UInt8, port: UInt16 = 1) -> Endpoint { Endpoint(ipv4: 10, 0, 0, n, port: port) }

extension WaitingRoom {
    /// Somebody enters, and exactly these have to go.
    fileprivate mutating func check(_ id: UInt64, from endpoint: Endpoint, at now: Instant, go expected: [UInt64]) {
        let gone = enter(id, from: endpoint, at: now)
        #expect(gone == expected)
    }
}

@Test func `a flood from one address pushes out itself, oldest first`() {
    var room = WaitingRoom(places: 8)
    for n in 0..<3 { room.check(UInt64(n), from: home(UInt8(n)), at: at(0), go: []) }
    var gone: [UInt64] = []
    for n in 0..<100 { gone += room.enter(UInt64(100 + n), from: home(9, port: UInt16(n)), at: at(1)) }
    #expect(gone == (100..<195).map { UInt64($0) })
    #expect((0..<3).allSatisfy { room.contains($0) })
    #expect(room.count == 8)
}

@Test func `from as many addresses as there are places the oldest goes`() {
    var room = WaitingRoom(places: 4)
    var gone: [UInt64] = []
    for n in 0..<10 { gone += room.enter(UInt64(n), from: home(UInt8(n)), at: at(0)) }
    #expect(gone == [0, 1, 2, 3, 4, 5])
}

@Test func `an IPv6 line is charged as a whole, whatever it calls itself`() {
    var room = WaitingRoom(places: 3)
    let other = Endpoint("[2001:db8:1:2::1]:1")!
    room.check(1, from: other, at: at(0), go: [])
    var gone: [UInt64] = []
    for n in 0..<5 {
        let address = Endpoint("[2001:db8:7:7::\(n + 1)]:1")!
        gone += room.enter(UInt64(10 + n), from: address, at: at(0))
    }
    #expect(gone == [10, 11, 12])
}

@Test func `when more than half of the places are taken, patience is shorter`() {
    var room = WaitingRoom(places: 8, hurry: .seconds(3))
    for n in 0..<4 { _ = room.enter(UInt64(n), from: home(UInt8(n)), at: at(0)) }
    room.check(4, from: home(4), at: at(9), go: [])
    room.check(5, from: home(5), at: at(9), go: [0, 1, 2, 3])
    #expect(room.count == 2)
}

@Test func `whoever has proven itself or is gone holds no place`() {
    var room = WaitingRoom(places: 2)
    for n in 0..<50 {
        room.check(UInt64(n), from: home(1), at: at(0), go: [])
        room.leave(UInt64(n))
    }
    room.leave(7)
    let nobody = room.yieldPlace()
    #expect(room.count == 0 && nobody == nil)
}

@Test func `any order of coming and going keeps the books`() {
    for seed in 0..<50 {
        var random = SeededGenerator(seed: UInt64(seed))
        var room = WaitingRoom(places: 5)
        var here: Set<UInt64> = []
        var now = 0.0
        for n in 0..<300 {
            now += random.uniform()
            if random.below(3) == 0, let some = here.sorted().first {
                room.leave(some)
                here.remove(some)
            } else {
                for gone in room.enter(UInt64(n), from: home(UInt8(random.below(4))), at: at(now)) {
                    #expect(here.remove(gone) != nil, "only who was here goes")
                }
                here.insert(UInt64(n))
            }
            #expect(room.count == here.count && here.count <= 5)
            #expect(here.allSatisfy { room.contains($0) })
        }
    }
}
