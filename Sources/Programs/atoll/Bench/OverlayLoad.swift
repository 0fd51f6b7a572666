import Foundation
import Glibc
import Kademlia
import Primitives

/// Loads a real node from outside: throughput beside a raw echo, isolation under a flood, amplification.
struct OverlayLoad {
    private static let id = NodeID(hashing: Array("load".utf8))

    private static func query(_ method: KRPCMethod, number: UInt32) -> [UInt8] {
        let transaction = [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> $0) }[...]
        return KRPCMessage(transaction: transaction, body: .query(KRPCQuery(sender: id, method: method)))
            .encoded(pool: nil)
    }
    private static func target(_ number: Int) -> NodeID {
        NodeID(hashing: withUnsafeBytes(of: UInt64(number).littleEndian) { Array($0) })
    }
    /// What a node on the open internet is asked: mostly find_node and get_peers.
    private static let mix: [[UInt8]] = (0..<500).map { number in
        let method: KRPCMethod =
            switch number % 10 {
            case 0..<4: .findNode(target: target(number))
            case 4..<8: .getPeers(infoHash: target(number))
            case 8: .get(target: target(number), sequence: nil)
            default: .ping
            }
        return query(method, number: UInt32(number))
    }

    /// Sources in so many /24 networks of 127/8.
    private static func sources(_ count: Int, first: UInt8, to endpoint: Endpoint) -> [RawSocket] {
        (0..<count).map { RawSocket(from: [127, first + UInt8($0 / 200), UInt8(1 + $0 % 200), 1], to: endpoint) }
    }

    /// - Returns: queries answered a second of wall time, and a second of the server's CPU time.
    static func throughput(_ kind: OverlayServer.Kind, seconds: Double) -> (wall: Double, cpu: Double, lost: Double) {
        let server = OverlayServer(kind, neighbours: kind == .node ? 24 : 0)
        let sources = sources(128, first: 20, to: server.endpoint)
        let start = Date()
        var number = 0
        // Windows of sixteen a source: deep enough that the server never waits, shallow enough that little is dropped.
        while Date().timeIntervalSince(start) < seconds {
            for source in sources {
                while source.receive() != nil {}
                // What was lost is forgotten after a while: nobody repeats a datagram.
                if source.sent - source.received - source.forgotten >= 16 { source.patience -= 1 }
                if source.patience == 0 { source.forget() }
                for _ in 0..<max(0, 16 - (source.sent - source.received - source.forgotten)) {
                    source.send(mix[number % mix.count])
                    number += 1
                }
            }
        }
        let elapsed = Date().timeIntervalSince(start)
        let answers = sources.reduce(0) { $0 + $1.received }
        let sent = sources.reduce(0) { $0 + $1.sent }
        server.stop()
        return (Double(answers) / elapsed, Double(server.answered) / server.cpu, 1 - Double(answers) / Double(sent))
    }

    /// Others' round trips while one prefix sends as fast as it can.
    ///
    /// - Returns: answered share, 95th percentile in ms without and with the flood, flood datagrams a second.
    static func flood(seconds: Double) -> (
        share: Double, calm: Double, flooded: Double, rate: Double, dropped: Int, attackerShare: Double
    ) {
        let server = OverlayServer(.node, neighbours: 24)
        let others = sources(50, first: 30, to: server.endpoint)
        func ask(_ until: Date) -> [Double] {
            var times: [Double] = []
            var number = 0
            while Date() < until {
                let source = others[number % others.count]
                let start = Date()
                source.send(mix[number % mix.count])
                number += 1
                if source.await(milliseconds: 500) != nil { times.append(Date().timeIntervalSince(start) * 1000) }
                usleep(500)
            }
            return times.sorted()
        }
        let calm = ask(Date() + seconds)
        let (sentBefore, receivedBefore) = (others.reduce(0) { $0 + $1.sent }, others.reduce(0) { $0 + $1.received })
        let attack = Attack(to: server.endpoint, seconds: seconds + 0.5, mix: mix)
        usleep(500_000)
        let flooded = ask(Date() + seconds)
        attack.wait()
        let sent = others.reduce(0) { $0 + $1.sent } - sentBefore
        let received = others.reduce(0) { $0 + $1.received } - receivedBefore
        server.stop()
        func p95(_ x: [Double]) -> Double { x.isEmpty ? .infinity : x[min(x.count - 1, x.count * 95 / 100)] }
        return (
            Double(received) / Double(max(1, sent)), p95(calm), p95(flooded), Double(attack.sent) / (seconds + 0.5),
            server.counters.flooded, Double(attack.received) / Double(max(1, attack.sent))
        )
    }

    /// Sixteen sockets of one /24 that send without pause, on a thread of their own.
    private final class Attack: @unchecked Sendable {
        private(set) var sent = 0
        private(set) var received = 0
        private let done = DispatchSemaphore(value: 0)
        init(to endpoint: Endpoint, seconds: Double, mix: [[UInt8]]) {
            let thread = Thread { [self] in
                let sockets = (0..<16).map { RawSocket(from: [127, 66, 66, UInt8(1 + $0)], to: endpoint) }
                let end = Date() + seconds
                var number = 0
                while Date() < end {
                    for socket in sockets {
                        for _ in 0..<8 {
                            socket.send(mix[number % mix.count])
                            number += 1
                        }
                        while socket.receive() != nil {}
                    }
                }
                sent = sockets.reduce(0) { $0 + $1.sent }
                received = sockets.reduce(0) { $0 + $1.received }
                done.signal()
            }
            thread.start()
        }
        func wait() { done.wait() }
    }

    /// A thousand-byte item asked for again and again by sources that never prove where they are: bytes drawn for each
    /// byte sent, at first (within the budget) and once the budget is spent.
    static func amplification() -> (first: Double, sustained: Double, overall: Double) {
        let server = OverlayServer(.node, neighbours: 24)
        let value = Array("996:".utf8) + [UInt8](repeating: 65, count: 996)
        let target = StoredItem(value: value, signed: nil).target
        let owner = RawSocket(from: [127, 40, 1, 1], to: server.endpoint)
        owner.send(query(.get(target: target, sequence: nil), number: 1))
        guard let reply = owner.await(milliseconds: 1000),
            let message = try? KRPCMessage.decode(Array(reply), pool: nil), case .answer(let answer) = message.body,
            let token = answer.token
        else { return (.nan, .nan, .nan) }
        let item = StoredItem(value: value, signed: nil)
        owner.send(query(.put(.init(token: token, item: item, cas: nil)), number: 2))
        _ = owner.await(milliseconds: 1000)
        let victim = RawSocket(from: [127, 50, 1, 1], to: server.endpoint)
        var first = 0.0
        var (sent, received) = (0, 0)
        for round in 0..<4000 {
            victim.send(query(.get(target: target, sequence: nil), number: UInt32(round)))
            _ = victim.await(milliseconds: 200)
            if round == 0 { first = Double(victim.receivedBytes) / Double(victim.sentBytes) }
            if round == 1999 { (sent, received) = (victim.sentBytes, victim.receivedBytes) }
        }
        let sustained = Double(victim.receivedBytes - received) / Double(max(1, victim.sentBytes - sent))
        server.stop()
        return (first, sustained, Double(victim.receivedBytes) / Double(victim.sentBytes))
    }
}
