import EventLoop
import Foundation
import Kademlia
import Node
import Primitives

/// Real nodes with sockets of their own on one loop: how long puts and gets take.
final class OverlayLatency {
    struct Row {
        let operation: String
        var milliseconds: [Double] = []
        var failed = 0
        func percentile(_ p: Double) -> Double {
            let sorted = milliseconds.sorted()
            return sorted.isEmpty ? .nan : sorted[min(sorted.count - 1, Int(p * Double(sorted.count)))]
        }
    }

    private let loop = Loop()
    private var nodes: [OverlayNode] = []
    private var silent: Set<Int> = []
    private var generator: SeededGenerator
    private var rows: [Row] = []
    private var timer: EventLoop.Timer?

    private init(nodes count: Int, seed: UInt64) {
        generator = SeededGenerator(seed: seed)
        var first: [Endpoint] = []
        for index in 0..<count {
            let node = try! OverlayNode(
                loop, bind: Endpoint(ipv4: 127, 0, 0, 1, port: 0),
                overlay: OverlayServer.makeOverlay(
                    index, first, poolKey: [UInt8](repeating: 5, count: 32), at: loop.now))
            if index == 0 { first = [node.endpoint] }
            nodes.append(node)
        }
    }

    /// - Parameters:
    ///   - silenced: nodes that fall silent after everybody has joined.
    ///   - warm: seconds before the first operation.
    static func run(nodes: Int, silenced: Int, rounds: Int, warm: Double, seed: UInt64) -> [Row] {
        let run = OverlayLatency(nodes: nodes, seed: seed)
        for node in run.nodes { node.start() }
        run.after(warm) {
            // Never the first: somebody may still be joining through it.
            for index in stride(from: 1, through: nodes - 1, by: max(1, (nodes - 1) / max(1, silenced)))
            where run.silent.count < silenced {
                run.silent.insert(index)
                run.nodes[index].close()
            }
            run.round(rounds)
        }
        run.loop.run()
        for node in run.nodes { node.close() }
        run.timer?.close()
        run.loop.close()
        return run.rows
    }

    private func after(_ seconds: Double, _ work: @escaping () -> Void) {
        timer?.close()
        timer = EventLoop.Timer(loop, fire: work)
        timer?.arm(at: loop.now + .nanoseconds(Int64(seconds * 1e9)))
    }

    private func pick() -> OverlayNode {
        while true {
            let index = generator.below(nodes.count)
            if !silent.contains(index) { return nodes[index] }
        }
    }

    private func note(_ name: String, _ outcome: LookupOutcome, good: Bool) {
        let index = rows.firstIndex { $0.operation == name } ?? rows.endIndex
        if index == rows.endIndex { rows.append(Row(operation: name)) }
        rows[index].milliseconds.append(outcome.elapsed.inSeconds * 1000)
        if !good { rows[index].failed += 1 }
    }

    /// One immutable item, one mutable one and one announcement, each written by one node and read by another.
    private func round(_ left: Int) {
        guard left > 0 else { return loop.stop() }
        let bytes = generator.bytes([10, 200, 900][generator.below(3)])
        let value = Array("\(bytes.count):".utf8) + bytes
        let item = StoredItem(value: value, signed: nil)
        let hash = NodeID(hashing: generator.bytes(8))
        let salt = generator.bytes(4)
        let owner = pick()
        pick().perform({ $0.put(item, cas: nil, at: $1) }) { [self] outcome in
            note("put immutable", outcome, good: stored(outcome))
            pick().perform({ $0.getImmutable(item.target, at: $1) }) { [self] outcome in
                note("get immutable", outcome, good: has(value, outcome))
                owner.perform({ $0.putMutable(value: value, salt: salt, sequence: 1, cas: nil, at: $1) }) {
                    [self] outcome in
                    note("put mutable", outcome, good: stored(outcome))
                    let key = owner.overlay.publicKey
                    pick().perform({ $0.getMutable(key: key, salt: salt, at: $1) }) { [self] outcome in
                        note("get mutable", outcome, good: has(value, outcome))
                        meet(hash, left)
                    }
                }
            }
        }
    }
    private func meet(_ hash: NodeID, _ left: Int) {
        pick().perform({ $0.announce(hash, port: 4000, at: $1) }) { [self] outcome in
            note("announce", outcome, good: stored(outcome))
            pick().perform({ $0.getPeers(hash, at: $1) }) { [self] outcome in
                var found = false
                if case .peers(let peers) = outcome.result { found = peers.contains { $0.port == 4000 } }
                note("get peers", outcome, good: found)
                after(0.02) { [self] in round(left - 1) }
            }
        }
    }
    private func stored(_ outcome: LookupOutcome) -> Bool {
        if case .stored(let replicas, _) = outcome.result { replicas > 0 } else { false }
    }
    private func has(_ value: [UInt8], _ outcome: LookupOutcome) -> Bool {
        if case .item(let item) = outcome.result { item?.value == value } else { false }
    }
}
