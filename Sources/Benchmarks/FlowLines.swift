internal import Flows
public import Primitives

/// Flows over simulated lines, in virtual time, beside TCP CUBIC over the same ones: what they make of a line, and what they leave its owner.
public enum FlowLines {
    /// Shares are of the line's rate, in bytes of the stream; times are the owner's pings less those of an empty line.
    public struct Row: Hashable, Sendable {
        public let name: String
        public let goal: String
        /// Of the flows together.
        public var flows: Double?
        /// Of the owner's own upload.
        public var owner: Double?
        public var addedMedian: Duration?
        public var addedP95: Duration?
        /// The slowest of several flows, as a share of the fastest.
        public var fairness: Double?
        /// CUBIC's share where it is alone on the same line, and what it adds to pings.
        public var cubic: Double?
        public var cubicAdded: Duration?
    }
    public static let rate = BitRate.megabits(20)
    public static let way: Duration = .milliseconds(24)

    public static func run(seconds: Double = 30, seed: UInt64 = 1) -> [Row] {
        [
            alone(seconds, seed), owner(seconds, seed), lossy("1 % loss", way, 0.01, seconds, seed),
            lossy("150 ms, 0.2 % loss", .milliseconds(150), 0.002, seconds, seed), three(seconds, seed),
            shallow(seconds, seed), slowPeer(seconds, seed), busy(.milliseconds(30), seconds, seed),
        ]
    }
    /// A home with 200 ms of buffer before its up line, and others far away.
    public static func world(
        _ seed: UInt64, way: [Duration] = [way], loss: Double = 0, buffer: Double = 0.2, down: [BitRate] = []
    ) -> FlowWorld {
        var world = FlowWorld(seed: seed)
        let bytes = Int(rate.bytesPerSecond * buffer)
        let wide = DatagramLine.Properties(rate: .megabits(100), buffer: 1 << 20)
        let home = world.add(up: DatagramLine.Properties(rate: rate, buffer: bytes), down: wide)
        for (place, delay) in way.enumerated() {
            let down = place < down.count ? down[place] : .megabits(500)
            let peer = world.add(
                up: wide, down: DatagramLine.Properties(rate: down, buffer: Int(down.bytesPerSecond * 0.2)))
            world.connect(home, peer, DatagramLine.Properties(delay: delay / 2, jitter: .microseconds(200), loss: loss))
        }
        return world
    }
    public static func open(_ world: inout FlowWorld, _ peer: Int) {
        let id = UInt64(2 * peer - 1)
        world.open(id, from: 0, to: peer)
        world.run(until: world.now + .milliseconds(400))
        world.writeEndlessly(0, id)
    }
    static func share(_ bytes: Int, _ seconds: Double) -> Double { Double(bytes) / seconds / rate.bytesPerSecond }
    static func received(_ world: FlowWorld, _ peers: Range<Int>) -> Int {
        peers.reduce(0) { $0 + world.homes[$1].received.values.reduce(0, +) }
    }
    private static func added(_ world: FlowWorld, since: Instant, _ quantile: Double) -> Duration {
        let sorted = world.pings.filter { $0.at >= since }.map(\.took).sorted()
        guard !sorted.isEmpty else { return .zero }
        return sorted[min(sorted.count - 1, Int(Double(sorted.count) * quantile))] - way
    }

    public static func alone(_ seconds: Double, _ seed: UInt64) -> Row {
        var world = world(seed)
        open(&world, 1)
        let start = world.now
        world.startPinging(way: way)
        world.run(until: start + .seconds(seconds))
        var row = Row(name: "alone", goal: "≥ 0.85, ping ≤ +40 ms")
        row.flows = share(received(world, 1..<2), seconds)
        (row.addedMedian, row.addedP95) = (added(world, since: start, 0.5), added(world, since: start, 0.95))
        var other = self.world(seed)
        other.startPinging(way: way)
        other.startUpload()
        other.run(until: other.now + .seconds(seconds))
        row.cubic = share(other.uploaded, seconds)
        row.cubicAdded = added(other, since: .zero, 0.5)
        return row
    }
    /// The owner uploads from the eighth second to the last.
    public static func owner(_ seconds: Double, _ seed: UInt64) -> Row {
        var world = world(seed)
        open(&world, 1)
        world.run(until: world.now + .seconds(8))
        world.startPinging(way: way)
        world.startUpload()
        let before = received(world, 1..<2)
        world.run(until: world.now + .seconds(seconds))
        var row = Row(name: "owner uploads (CUBIC)", goal: "owner ≥ 0.80")
        row.flows = share(received(world, 1..<2) - before, seconds)
        row.owner = share(world.uploaded, seconds)
        return row
    }
    public static func lossy(_ name: String, _ delay: Duration, _ loss: Double, _ seconds: Double, _ seed: UInt64)
        -> Row
    {
        var world = world(seed, way: [delay], loss: loss)
        open(&world, 1)
        world.run(until: world.now + .seconds(seconds))
        var row = Row(name: name, goal: "≥ 0.85")
        row.flows = share(received(world, 1..<2), seconds)
        return row
    }
    /// Three flows to peers at different distances, the third ten seconds later.
    public static func three(_ seconds: Double, _ seed: UInt64) -> Row {
        var world = world(seed, way: [.milliseconds(12), .milliseconds(40), .milliseconds(90)])
        open(&world, 1)
        open(&world, 2)
        world.run(until: world.now + .seconds(10))
        open(&world, 3)
        world.run(until: world.now + .seconds(2))
        world.startPinging(way: way)
        let start = world.now
        let before = (1...3).map { received(world, $0..<$0 + 1) }
        world.run(until: start + .seconds(seconds))
        let got = (1...3).map { received(world, $0..<$0 + 1) - before[$0 - 1] }
        var row = Row(name: "three flows: 12, 40, 90 ms", goal: "≥ 0.85, ping ≤ +40 ms, fair ≥ 0.5")
        row.flows = share(got.reduce(0, +), seconds)
        row.fairness = Double(got.min()!) / Double(max(1, got.max()!))
        (row.addedMedian, row.addedP95) = (added(world, since: start, 0.5), added(world, since: start, 0.95))
        return row
    }
    /// A buffer of 10 ms: nothing ever waits as long as the target.
    public static func shallow(_ seconds: Double, _ seed: UInt64) -> Row {
        var world = world(seed, buffer: 0.01)
        open(&world, 1)
        world.run(until: world.now + .seconds(seconds))
        var row = Row(name: "10 ms of buffer", goal: "≥ 0.80")
        row.flows = share(received(world, 1..<2), seconds)
        return row
    }
    /// One of two peers takes 5 Mbit/s: the other one has the rest.
    public static func slowPeer(_ seconds: Double, _ seed: UInt64) -> Row {
        var world = world(seed, way: [way, way], down: [.megabits(5), .megabits(500)])
        open(&world, 1)
        open(&world, 2)
        world.startPinging(way: way)
        let (start, before) = (world.now, received(world, 1..<3))
        world.run(until: start + .seconds(seconds))
        var row = Row(name: "one of two takes 5 Mbit/s", goal: "≥ 0.80, ping ≤ +40 ms")
        row.flows = share(received(world, 1..<3) - before, seconds)
        (row.addedMedian, row.addedP95) = (added(world, since: start, 0.5), added(world, since: start, 0.95))
        return row
    }
    /// Machines with much else to do: the processes at both ends get a turn only so often, and then what has come meanwhile.
    public static func busy(_ turns: Duration, _ seconds: Double, _ seed: UInt64) -> Row {
        var world = world(seed)
        for home in world.homes.indices { world.homes[home].turns = turns }
        open(&world, 1)
        let start = world.now
        world.startPinging(way: way)
        world.run(until: start + .seconds(seconds))
        let milliseconds = turns.wholeNanoseconds / 1_000_000
        var row = Row(name: "a turn every \(milliseconds) ms", goal: "≥ 0.60, ping ≤ +40 ms")
        row.flows = share(received(world, 1..<2), seconds)
        (row.addedMedian, row.addedP95) = (added(world, since: start, 0.5), added(world, since: start, 0.95))
        return row
    }
}
