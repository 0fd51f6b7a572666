import Coordination
import Foundation
import JobFixtures
import Messages
import Planning
import Primitives
import Record
import Testing
import Topologies
import Wire

/// Members that answer every order to measure links with what a test makes up.
private func question(
    paths: [Int: PeerPaths] = [:],
    answering: (_ order: ProbeOrder, _ number: Int) throws -> [ProbeResult]
) throws -> PlanQuestion {
    var job = JobManifest(
        name: "small", model: Small.model, data: .path("text"), tokens: 10_000, virtualPipelines: 4, microBatch: 1)
    job.batchTokens = .fixed(32)
    var options = CoordinatorOptions()
    options.expectedPeers = 3
    var now = Instant.zero
    var coordinator = try Coordinator(
        key: Small.launcher, manifest: job.canonicalText, content: StoredBytes([UInt8](repeating: 32, count: 1000)),
        nonce: [UInt8](repeating: 9, count: 32), options: options, wall: WallClock(secondsAtZero: 0), at: now,
        parse: JobParameters.init(manifest:))
    func send(_ number: Int, _ message: Message) {
        let id = message.conversation == .meeting ? nil : coordinator.job
        coordinator.receive(Packet(job: id, term: 1, message), from: Small.peer(number), at: now)
    }
    for number in 1...3 {
        coordinator.established(Small.peer(number), endpoint: Small.endpoint(number), at: now)
        send(
            number,
            .capability(
                Capability(
                    name: "peer-\(number)", device: "cpu", memory: .mebibytes(64), flops: 1e9, numerics: Record.numerics
                )))
        send(number, .offerAnswer(OfferAnswer(refusal: nil)))
    }
    for number in 1...3 { send(number, .readiness(.hasText)) }
    for _ in 0..<200 {
        var orders: [(Int, ProbeOrder)] = []
        while let effect = coordinator.poll() {
            switch effect {
            case .plan(let question): return question
            case .send(let packet, let to):
                guard case .probeOrder(let order) = packet.message else { continue }
                orders.append(((1...3).first { Small.peer($0) == to }!, order))
            case .store(let request): coordinator.stored(request.ticket, .stored(path: ""), at: now)
            default: break
            }
        }
        for (number, order) in orders {
            if let paths = paths[number] { send(number, .paths(paths)) }
            for result in try answering(order, number) { send(number, .probeResult(result)) }
        }
        now += .milliseconds(500)
        for number in 1...3 { send(number, .heartbeat(Heartbeat())) }
        coordinator.wake(at: now)
    }
    throw NoQuestion()
}
private struct NoQuestion: Error {}

private func report(_ order: ProbeOrder, megabits: Double) -> ProbeResult {
    ProbeResult(
        turn: order.turn, roundTrips: order.pings.map { ProbeResult.RoundTrip(peer: $0.peer, time: .milliseconds(30)) },
        arrivals: order.senders.map { ProbeResult.Arrival(sender: $0, bitsPerSecond: megabits * 1e6) }, together: nil)
}
/// As it comes over the wire, from a peer that writes what it likes.
private func decoded(_ change: (inout PBProbeResult) -> Void) throws -> ProbeResult {
    var packet = PBPacket()
    change(&packet.probeResult)
    guard case .probeResult(let result) = try Packet(packet).message else { throw NoQuestion() }
    return result
}

@Suite struct `What members report of their links` {
    @Test func `is what is planned with`() throws {
        let question = try question { order, _ in [report(order, megabits: 10)] }
        #expect(question.peers.allSatisfy { abs($0.up!.megabitsPerSecond - 10) < 0.1 })
        #expect(question.roundTrips.count == 6 && question.roundTrips.values.allSatisfy { $0 == .milliseconds(30) })
        #expect(question.caps.isEmpty)
    }

    @Test func `counts once, in its turn, of those who were to send, and within reason`() throws {
        let question = try question { order, number in
            var late = report(order, megabits: 5_000)
            late.turn &-= 1
            let strangers = try decoded { result in
                result.turn = order.turn
                func arrive(_ sender: PeerID?, _ bytes: UInt64, _ nanoseconds: UInt64) {
                    var arrival = PBProbeResult.Arrival()
                    if let sender { arrival.sender = bytesOf(sender) }
                    arrival.bytes = bytes
                    arrival.nanoseconds = nanoseconds
                    result.arrivals.append(arrival)
                }
                for _ in order.senders { arrive(Small.peer(9), 5_000_000_000, 1_000_000_000) }
                for sender in order.senders { arrive(sender, 1_250_000, 1_000_000_000) }
                // Absurd, and said twice of one sender.
                arrive(order.senders.first, .max, 1)
                arrive(order.senders.first, 1, .max)
                result.together.bytes = .max
                var trip = PBProbeResult.RoundTrip()
                for peer in [Small.peer(9), Small.peer(number)] {
                    trip.peer = bytesOf(peer)
                    trip.nanoseconds = .max
                    result.roundTrips.append(trip)
                }
            }
            return [late, strangers, report(order, megabits: 5_000)]
        }
        #expect(question.peers.allSatisfy { abs($0.up!.megabitsPerSecond - 10) < 0.1 })
        #expect(question.peers.allSatisfy { abs($0.down!.megabitsPerSecond - 10) < 0.1 })
        #expect(question.roundTrips.isEmpty)
    }

    /// One of three is silent: the others are measured, and it is no better than the worst of them.
    @Test func `may be missing`() throws {
        let question = try question { order, number in
            number == 3 ? [] : [report(order, megabits: Double(10 * number))]
        }
        #expect(question.peers.filter { $0.up != nil }.count >= 1)
        let hosts = question.topology.hosts.filter { $0.name.hasPrefix("peer") }
        #expect(hosts.count == 3 && hosts[2].up == hosts.map(\.up).min())
    }

    /// The first peer's way to the third leads over a stranger, as one of the two says, and to the second over the third.
    @Test func `says who is relayed, and the topology has it`() throws {
        let crane = Small.peer(9)
        let said = PeerPaths([
            Small.peer(3): .relayed(by: crane, rate: .megabits(5)),
            Small.peer(2): .relayed(by: Small.peer(3), rate: nil),
            crane: .punched,
        ])
        let other = PeerPaths([Small.peer(1): .punched])
        let question = try question(paths: [1: said, 2: other]) { order, _ in [report(order, megabits: 10)] }
        let topology = question.topology
        func place(_ name: String) -> Int { topology.index(of: name) ?? -1 }
        let (first, second, third) = (place("peer-1"), place("peer-2"), place("peer-3"))
        let relay = place(crane.short)
        #expect(relay == topology.hosts.count - 1 && topology.hosts[relay].role == .bootstrap)
        #expect(
            topology.relays == [
                Topology.Pair(first, third): relay, Topology.Pair(third, first): relay,
                Topology.Pair(first, second): third, Topology.Pair(second, first): third,
            ])
        // What the relay says that it carries, and where it does not say what everybody does.
        #expect(topology.sendRate(from: first, to: third) == .megabits(5))
        #expect(topology.sendRate(from: first, to: second) == Host.usualRelayRate)
        #expect(abs(topology.sendRate(from: third, to: second).megabitsPerSecond - 10) < 0.1)
        #expect(topology.hosts[first].port == Small.endpoint(1).port)
        #expect(try Topology(parsing: topology.text).relays == topology.relays)
        let plan = try question.answered().get()
        #expect(plan.planned.relayed.allSatisfy { [crane.short, "peer-3"].contains($0.relay) })
    }

    @Test func `of their paths is bounded, and each said once`() throws {
        let paths = PeerPaths([
            Small.peer(1): .punched, Small.peer(2): .relayed(by: Small.peer(3), rate: .megabits(5)),
            Small.peer(4): .direct,
            Small.peer(5): .relayed(by: Small.peer(3), rate: nil),
        ])
        #expect(paths.paths.count == 3 && paths[Small.peer(4)] == .direct)
        #expect(try Packet(Packet(.paths(paths)).framed.packet).message == .paths(paths))
        func refused(_ change: (inout PBPaths) -> Void) -> Bool {
            var packet = Packet(.paths(paths)).framed.packet
            change(&packet.paths)
            return (try? Packet(packet)) == nil
        }
        #expect(!refused { _ in })
        #expect(refused { $0.paths.append($0.paths[0]) })
        #expect(refused { $0.paths[0].peer = Data([1]) })
        #expect(refused { $0.paths[1].relay = Data([1, 2]) })
        #expect(refused { paths in for index in paths.paths.indices { paths.paths[index].rateBits = .max } })
        #expect(
            refused { paths in
                paths.paths = (0...PeerPath.most).map { number in
                    var path = PBPaths.Path()
                    path.peer = Data((0..<32).map { UInt8(truncatingIfNeeded: number >> ($0 % 4 * 8)) })
                    return path
                }
            })
    }
}
