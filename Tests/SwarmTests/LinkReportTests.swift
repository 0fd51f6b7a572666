import Planning
import Primitives
import Swarm
import Testing
import Topologies
import Wire

/// Members that answer every order to measure links with what a test makes up.
private func question(
    answering: (_ order: PBProbeOrder, _ number: Int) -> [PBProbeResult]
) throws -> PlanQuestion {
    var job = JobManifest(
        name: "small", model: Small.model, data: .path("text"), tokens: 10_000, virtualPipelines: 4, microBatch: 1)
    job.batchTokens = .fixed(32)
    var options = CoordinatorOptions()
    options.expectedPeers = 3
    var now = Instant.zero
    var coordinator = Coordinator(
        key: Small.launcher, manifest: job.canonicalText, parameters: JobParameters(job),
        content: [UInt8](repeating: 32, count: 1000), options: options, at: now)
    func send(_ number: Int, _ change: (inout PBPacket) -> Void) {
        var packet = PBPacket()
        change(&packet)
        coordinator.receive(packet, payload: [], from: Small.peer(number), at: now)
    }
    for number in 1...3 {
        coordinator.established(Small.peer(number), endpoint: Small.endpoint(number), at: now)
        send(number) {
            $0.capability.name = "peer-\(number)"
            $0.capability.numerics = JobLog.numerics
            $0.capability.flops = 1e9
            $0.capability.memoryBytes = 64 << 20
        }
        send(number) { $0.offerAnswer.accepted = true }
    }
    for number in 1...3 { send(number) { $0.heartbeat.doing = "ready" } }
    for _ in 0..<200 {
        var orders: [(Int, PBProbeOrder)] = []
        while let effect = coordinator.poll() {
            switch effect {
            case .plan(let question): return question
            case .send(let packet, _, _, let to):
                guard case .probeOrder(let order)? = packet.body else { continue }
                orders.append(((1...3).first { Small.peer($0) == to }!, order))
            default: break
            }
        }
        for (number, order) in orders {
            for result in answering(order, number) { send(number) { $0.probeResult = result } }
        }
        now += .milliseconds(500)
        for number in 1...3 { send(number) { $0.heartbeat.doing = "ready" } }
        coordinator.wake(at: now)
    }
    throw NoQuestion()
}
private struct NoQuestion: Error {}

private func report(_ order: PBProbeOrder, megabits: Double) -> PBProbeResult {
    var result = PBProbeResult()
    result.turn = order.turn
    result.arrivals = order.senders.map { sender in
        var arrival = PBProbeResult.Arrival()
        arrival.sender = sender
        arrival.bytes = 125_000
        arrival.nanoseconds = UInt64(1e9 / megabits)
        return arrival
    }
    result.roundTrips = order.ping.map { target in
        var trip = PBProbeResult.RoundTrip()
        trip.peer = target.peer
        trip.nanoseconds = 30_000_000
        return trip
    }
    return result
}

@Suite struct `What members report of their links` {
    @Test func `is what is planned with`() throws {
        let question = try question { order, _ in [report(order, megabits: 10)] }
        #expect(question.candidates.allSatisfy { abs($0.up!.megabitsPerSecond - 10) < 0.1 })
        #expect(question.roundTrips.count == 6 && question.roundTrips.values.allSatisfy { $0 == .milliseconds(30) })
        #expect(question.caps.isEmpty)
    }

    @Test func `counts once, in its turn, of those who were to send, and within reason`() throws {
        let question = try question { order, number in
            var late = report(order, megabits: 5_000)
            late.turn &-= 1
            var strangers = report(order, megabits: 5_000)
            for index in strangers.arrivals.indices { strangers.arrivals[index].sender = bytesOf(Small.peer(9)) }
            for index in strangers.roundTrips.indices { strangers.roundTrips[index].peer = bytesOf(Small.peer(9)) }
            strangers.arrivals += report(order, megabits: 10).arrivals
            var absurd = PBProbeResult.Arrival()
            if let sender = order.senders.first { absurd.sender = sender }
            absurd.bytes = .max
            strangers.arrivals.append(absurd)
            strangers.together = absurd
            var trip = PBProbeResult.RoundTrip()
            trip.peer = bytesOf(Small.peer(number))
            trip.nanoseconds = .max
            strangers.roundTrips.append(trip)
            return [late, strangers, report(order, megabits: 5_000)]
        }
        #expect(question.candidates.allSatisfy { abs($0.up!.megabitsPerSecond - 10) < 0.1 })
        #expect(question.candidates.allSatisfy { abs($0.down!.megabitsPerSecond - 10) < 0.1 })
        #expect(question.roundTrips.isEmpty)
    }

    /// One of three is silent: the others are measured, and it is no better than the worst of them.
    @Test func `may be missing`() throws {
        let question = try question { order, number in
            number == 3 ? [] : [report(order, megabits: Double(10 * number))]
        }
        #expect(question.candidates.filter { $0.up != nil }.count >= 1)
        let hosts = question.topology.hosts.filter { $0.name.hasPrefix("peer") }
        #expect(hosts.count == 3 && hosts[2].up == hosts.map(\.up).min())
    }
}
