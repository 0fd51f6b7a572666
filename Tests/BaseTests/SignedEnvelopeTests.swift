import Digests
import Primitives
import Testing
import Wire

@Suite struct `Signed envelopes` {
    static let key = SigningKey(seed: [UInt8](repeating: 1, count: 32))!
    static let other = SigningKey(seed: [UInt8](repeating: 2, count: 32))!
    static let job = sha256(Array("a job".utf8))
    static let anotherJob = sha256(Array("another job".utf8))

    static var work: PBWork {
        var work = PBWork()
        work.work.round = 3
        work.microBatches = 12
        work.lossSum = 4.25
        return work
    }
    static func envelope(_ type: EnvelopeType = .receipt) -> PBEnvelope {
        PBEnvelope(work, type: type, job: job, epoch: 4, sequence: 5, expiry: 6, by: key)
    }
    private func opens(_ envelope: PBEnvelope, _ type: EnvelopeType = .receipt, job: Digest256? = job, wall: Int64? = 5)
        -> Bool
    {
        (try? envelope.open(type, job: job, wall: wall, as: PBWork.self)) != nil
    }

    @Test func `say who said what for which job`() throws {
        let statement = try Self.envelope().open(.receipt, job: Self.job, wall: nil, as: PBWork.self)
        #expect(statement.signer == Self.key.peerID)
        #expect(statement.sequence == 5)
        #expect(statement.epoch == 4)
        #expect(statement.body == Self.work)
    }

    @Test func `expire, for whoever looks at the time`() {
        #expect(opens(Self.envelope(), wall: 5))
        #expect(!opens(Self.envelope(), wall: 6))
        #expect(!opens(Self.envelope(), wall: -1))
        #expect(opens(Self.envelope(), wall: nil))
        let never = PBEnvelope(Self.work, type: .receipt, job: Self.job, epoch: 4, sequence: 5, by: Self.key)
        #expect(opens(never, wall: .max))
    }

    @Test func `survive the wire`() throws {
        var entries = PBLogEntries()
        entries.entries = [Self.envelope()]
        var packet = PBPacket()
        packet.logEntries = entries
        let decoded = try FramedPacket(decoding: FramedPacket(packet).encoded)
        #expect(decoded.packet.logEntries.entries == [Self.envelope()])
        #expect(opens(decoded.packet.logEntries.entries[0]))
    }

    /// Written out from the format's description, without the code under test.
    @Test func `sign exactly the bytes that the format says`() {
        func integer(_ value: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
        let envelope = Self.envelope()
        var bytes = Array("atoll/receipt/1".utf8) + Self.job.bytes
        bytes += integer(4) + integer(5) + integer(6) + Array(envelope.body)
        #expect(verifySignature(Array(envelope.signature), of: bytes, by: Self.key.peerID))
    }

    @Test func `any changed field makes the signature void`() {
        let original = Self.envelope()
        #expect(opens(original, job: nil))
        var changed = original
        changed.type = EnvelopeType.logEntry.rawValue
        #expect(!opens(changed, .logEntry))
        changed = original
        changed.job = bytesOf(Self.anotherJob)
        #expect(!opens(changed, job: nil))
        #expect(!opens(changed, job: Self.anotherJob))
        changed = original
        changed.epoch += 1
        #expect(!opens(changed))
        changed = original
        changed.sequence += 1
        #expect(!opens(changed))
        changed = original
        changed.expiry += 1
        #expect(!opens(changed))
        changed = original
        changed.signer = bytesOf(Self.other.peerID)
        #expect(!opens(changed))
        var work = Self.work
        work.microBatches += 1
        changed = original
        changed.body = PBEnvelope(work, type: .receipt, job: Self.job, epoch: 4, sequence: 5, by: Self.key).body
        #expect(!opens(changed))
        for index in 0..<64 {
            var signature = Array(original.signature)
            signature[index] ^= 0x10
            changed = original
            changed.signature = bytesOf(signature)
            #expect(!opens(changed))
        }
    }

    @Test func `of another type or job are refused`() {
        #expect(!opens(Self.envelope(.logEntry), .receipt))
        #expect(opens(Self.envelope(.logEntry), .logEntry))
        #expect(!opens(Self.envelope(), job: Self.anotherJob))
    }

    @Test(arguments: [0, 31, 33]) func `with a malformed signer or job are refused`(count: Int) {
        var changed = Self.envelope()
        changed.signer = bytesOf([UInt8](repeating: 3, count: count))
        #expect(!opens(changed, job: nil))
        changed = Self.envelope()
        changed.job = bytesOf([UInt8](repeating: 3, count: count))
        #expect(!opens(changed, job: nil))
    }

    /// A verifier that skipped what it does not know would take a statement for another than its signer meant.
    @Test func `with an unknown field in the body are refused, although rightly signed`() throws {
        var known = Self.envelope()
        known = try signing(Array(known.body))
        #expect(opens(known))
        // Field 90, a varint: key 90·8 = 720 = 0xd0 0x05, value 1.
        let unknown = try signing(Array(Self.envelope().body) + [0xd0, 0x05, 0x01])
        #expect(!opens(unknown))
        let truncated = try signing(Array(Self.envelope().body.dropLast()))
        #expect(!opens(truncated))
    }

    /// A rightly signed envelope around any bytes.
    private func signing(_ body: [UInt8]) throws -> PBEnvelope {
        var envelope = Self.envelope()
        var bytes = Array("atoll/receipt/1".utf8) + Self.job.bytes
        for value in [envelope.epoch, envelope.sequence, envelope.expiry] {
            bytes += (0..<8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
        }
        envelope.body = bytesOf(body)
        envelope.signature = bytesOf(Self.key.sign(bytes + body))
        return envelope
    }
}
