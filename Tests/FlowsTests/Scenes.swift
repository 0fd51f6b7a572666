import Benchmarks
import Flows
import Primitives

/// What byte number `n` of a stream is, in these tests: a byte out of its place is noticed.
func byte(_ n: Int, _ stream: Int = 0) -> UInt8 { UInt8(truncatingIfNeeded: n &* 31 &+ n >> 8 &+ stream) }
func text(_ range: Range<Int>, _ stream: Int = 0) -> [UInt8] { range.map { byte($0, stream) } }

let quickLine = DatagramLine.Properties(rate: .megabits(100), buffer: 1 << 20)

/// Two homes, 10 ms apart.
func pair(seed: UInt64, way: DatagramLine.Properties = .init(delay: .milliseconds(10))) -> FlowWorld {
    var world = FlowWorld(seed: seed)
    let a = world.add(up: quickLine, down: quickLine)
    let b = world.add(up: quickLine, down: quickLine)
    world.connect(a, b, way)
    world.keeps = true
    return world
}
extension FlowWorld {
    mutating func run(_ duration: Duration) { run(until: now + duration) }
    func ends(_ home: Int) -> [FlowEnd] {
        said.compactMap { if $0.home == home, case .closed(_, let why) = $0.effect { why } else { nil } }
    }
    func said(_ home: Int, _ effect: FlowHost.Effect) -> Bool {
        said.contains { $0.home == home && $0.effect == effect }
    }
}

/// A member of the pool that keeps to no rule: learns a flow's IDs from what passes and writes packets of its own, as docs/FLOW.md has them.
final class Forger {
    var asker: [UInt8] = []
    var answerer: [UInt8] = []
    /// Clear bytes of the last beginning.
    var cookie: [UInt8] = []
    var seen: [[UInt8]] = []

    func learn(_ bytes: [UInt8]) {
        seen.append(bytes)
        if bytes[0] == 0xA2 {
            answerer = Array(bytes[1..<9])
            asker = Array(bytes[13..<21])
            cookie = Array(bytes[21..<41])
        }
    }
    static func seal(_ context: [UInt8]) -> any PacketSeal { SimulatedSeals(key: 7).seal(for: context) }
    func packet(fromAsker: Bool, number: UInt32, _ frames: [UInt8]) -> [UInt8] {
        let context = Array("atoll flow packets ".utf8) + asker + answerer + [fromAsker ? 1 : 2]
        let low = (0..<4).map { UInt8(truncatingIfNeeded: number >> UInt32(24 - 8 * $0)) }
        var bytes = [0xA3] + (fromAsker ? answerer : asker) + low + frames + [UInt8](repeating: 0, count: 16)
        bytes.withUnsafeMutableBytes { Self.seal(context).seal($0, clear: 13, number: UInt64(number)) }
        return bytes
    }
    /// A beginning with whatever cookie.
    static func begin(asker: [UInt8], answerer: [UInt8], cookie: [UInt8], _ frames: [UInt8]) -> [UInt8] {
        let context = Array("atoll flow packets ".utf8) + asker + answerer + [1]
        var bytes = [0xA2] + answerer + [0, 0, 0, 0] + asker + cookie + frames + [UInt8](repeating: 0, count: 16)
        bytes.withUnsafeMutableBytes { seal(context).seal($0, clear: 41, number: 0) }
        return bytes
    }
    static func hello(asker: [UInt8], size: Int = 1_200) -> [UInt8] {
        let salt = [UInt8](repeating: 3, count: 16)
        var bytes = [0xA0] + salt + [1] + asker
        bytes += [UInt8](repeating: 0, count: size - bytes.count)
        bytes.withUnsafeMutableBytes { seal(Array("atoll flow 160 ".utf8) + salt).seal($0, clear: 17, number: 0) }
        return bytes
    }
}

/// A pair with a flow from the first home to the second, and somebody who knows its numbers.
func watchedPair(seed: UInt64) -> (FlowWorld, Forger) {
    var world = pair(seed: seed)
    let forger = Forger()
    world.tap = { _, _, bytes in
        forger.learn(bytes)
        return true
    }
    world.open(1, from: 0, to: 1)
    world.write(0, 1, text(0..<5_000))
    world.run(.milliseconds(200))
    return (world, forger)
}
