import Digests
import Primitives
import SecureTransport
import Testing

/// Two ends of TLS over memory; what a relay would see lies between.
private struct Wire {
    let ends: [CarriedSessions]
    let keys: [SigningKey]
    var carried: [[UInt8]] = [[], []]
    var plaintext: [[UInt8]] = [[], []]
    var secured: [(peer: PeerID, exporter: [UInt8])?] = [nil, nil]
    var ended = [false, false]
    /// Changes what is on its way from an end.
    var tamper: (Int, [UInt8]) -> [UInt8] = { $1 }

    init() {
        keys = (0..<2).map { SigningKey(seed: [UInt8](repeating: UInt8($0 + 1), count: 32))! }
        ends = keys.map { CarriedSessions($0) }
    }
    /// - Parameter expected: by the first end; nil: the second one's key.
    mutating func begin(expecting expected: PeerID? = nil) {
        let isClient = keys[0].peerID < keys[1].peerID
        let first = ends[0].begin(1, isClient: isClient, expecting: expected ?? keys[1].peerID)
        let second = ends[1].begin(1, isClient: !isClient, expecting: keys[0].peerID)
        heard(first, at: 0)
        heard(second, at: 1)
    }
    mutating func write(_ end: Int, _ bytes: [UInt8]) { heard(ends[end].write(1, bytes), at: end) }
    mutating func heard(_ events: [CarriedEvent], at end: Int) {
        for event in events {
            switch event {
            case .ciphertext(let bytes):
                let passed = tamper(end, bytes)
                carried[end] += passed
                // In pieces, as circuits bring them.
                for start in stride(from: 0, to: passed.count, by: 700) {
                    heard(ends[1 - end].receive(1, Array(passed[start..<min(passed.count, start + 700)])), at: 1 - end)
                }
            case .secured(let peer, let exporter): secured[end] = (peer, exporter)
            case .plaintext(let bytes): plaintext[end] += bytes
            case .ended: ended[end] = true
            }
        }
    }
}
private let secret = Array("the weights of round 7".utf8)
extension [UInt8] {
    fileprivate func holds(_ part: [UInt8]) -> Bool {
        indices.dropLast(Swift.min(count, part.count - 1)).contains { self[$0...].starts(with: part) }
    }
}

@Suite struct `TLS over bytes that others carry` {
    @Test func `proves both keys, gives both ends one exporter, and shows whoever carries it nothing`() {
        var wire = Wire()
        wire.begin()
        #expect(wire.secured[0]?.peer == wire.keys[1].peerID && wire.secured[1]?.peer == wire.keys[0].peerID)
        #expect(wire.secured[0]?.exporter == wire.secured[1]?.exporter && wire.secured[0]?.exporter.count == 32)
        let long = (0..<3000).flatMap { _ in secret }
        wire.write(0, long)
        wire.write(1, secret)
        #expect(wire.plaintext[1] == long && wire.plaintext[0] == secret)
        for carried in wire.carried {
            #expect(!carried.holds(secret) && !carried.holds(wire.keys[0].peerID.bytes))
            #expect(!carried.holds(wire.secured[0]!.exporter))
        }
        wire.heard(wire.ends[0].close(1), at: 0)
        #expect(wire.ended == [true, true] && !wire.ends[0].has(1))
    }

    @Test func `lets nobody answer for another`() {
        var wire = Wire()
        wire.begin(expecting: PeerID([UInt8](repeating: 9, count: 32))!)
        #expect(wire.secured[0] == nil && wire.ended[0])
    }

    @Test(arguments: [0, 1]) func `ends when whoever carries it changes a byte, and hands nothing on`(end: Int) {
        var wire = Wire()
        wire.begin()
        wire.tamper = { from, bytes in
            var bytes = bytes
            if from == end { bytes[bytes.count / 2] ^= 1 }
            return bytes
        }
        wire.write(end, secret)
        #expect(wire.plaintext[1 - end].isEmpty && wire.ended[1 - end])
        #expect(wire.ends[end].receive(9, [1, 2, 3]).isEmpty, "of a stream that never was")
    }

    @Test func `ends on bytes that are no TLS`() {
        var wire = Wire()
        wire.tamper = { _, bytes in [UInt8](repeating: 0x41, count: bytes.count) }
        wire.begin()
        #expect(wire.secured.allSatisfy { $0 == nil } && wire.ended.contains(true))
    }
}
