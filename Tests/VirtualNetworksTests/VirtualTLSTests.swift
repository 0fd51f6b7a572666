import Primitives
import Testing
import VirtualNetworks

private func id(_ n: UInt8) -> PeerID { PeerID([UInt8](repeating: n, count: 32))! }

@Suite struct `TLS of a virtual network` {
    /// Everything that one end says is heard by the other, in pieces.
    private func run(expecting expected: PeerID) -> (events: [[CarriedEvent]], ends: [VirtualTLS], bytes: Int) {
        var ends = [
            VirtualTLS(local: id(1), isClient: true, expecting: expected, nonce: [UInt8](repeating: 5, count: 16)),
            VirtualTLS(local: id(2), isClient: false, expecting: id(1), nonce: [UInt8](repeating: 6, count: 16)),
        ]
        var events: [[CarriedEvent]] = [[], []]
        var bytes = 0
        var waiting = ends[0].begin().map { (0, $0) }
        while !waiting.isEmpty {
            let (end, event) = waiting.removeFirst()
            guard case .ciphertext(let piece) = event else {
                events[end].append(event)
                continue
            }
            bytes += piece.count
            for start in stride(from: 0, to: piece.count, by: 99) {
                let heard = ends[1 - end].receive(Array(piece[start..<min(piece.count, start + 99)]))
                waiting += heard.map { (1 - end, $0) }
            }
        }
        return (events, ends, bytes)
    }
    @Test func `has messages of their sizes, both keys, one exporter, and records`() {
        var (events, ends, bytes) = run(expecting: id(2))
        #expect(bytes == 320 + 900 + 760)
        guard case .secured(let peer, let exporter)? = events[0].first, case .secured(_, let other)? = events[1].first
        else {
            Issue.record("not secured: \(events)")
            return
        }
        #expect(peer == id(2) && exporter == other)
        guard case .ciphertext(let record)? = ends[0].write([1, 2, 3]).first else { return }
        #expect(record.count == 25 && ends[1].receive(record) == [.plaintext([1, 2, 3])])
    }
    @Test func `expects a key, and breaks on what it does not know`() {
        let (events, _, _) = run(expecting: id(3))
        #expect(events[0] == [.ended] && events[1].isEmpty)
        var end = VirtualTLS(local: id(1), isClient: false, expecting: nil, nonce: [UInt8](repeating: 5, count: 16))
        #expect(end.receive([9, 0, 0, 0, 1, 0]) == [.ended])
        #expect(end.receive([1, 0, 0, 0, 16] + [UInt8](repeating: 1, count: 16)).isEmpty)
    }
}
