public import Digests
public import Primitives
public import SwiftProtobuf

/// What kinds of bytes an identity signs. It never signs bytes that another chose, except inside an envelope.
public enum EnvelopeType: String, Sendable {
    case logEntry = "log"
    case receipt = "receipt"
}

/// A verified envelope: who said what, for which job.
public struct SignedStatement<Body: Message & Sendable>: Sendable {
    public let signer: PeerID
    public let sequence: UInt64
    public let epoch: UInt64
    public let body: Body
}

extension PBEnvelope {
    /// Signs `body` as `atoll/<type>/1 ‖ job ‖ epoch ‖ sequence ‖ expiry ‖ body`.
    public init(
        _ body: some Message, type: EnvelopeType, job: Digest256, epoch: UInt64, sequence: UInt64, expiry: UInt64 = 0,
        by key: SigningKey
    ) {
        self.init()
        self.type = type.rawValue
        self.job = bytesOf(job)
        self.epoch = epoch
        self.sequence = sequence
        self.expiry = expiry
        do {
            self.body = try body.serializedBytes()
        } catch {
            preconditionFailure("a message without required fields always serialises: \(error)")
        }
        sign(by: key)
    }

    /// Signs what it says now.
    public mutating func sign(by key: SigningKey) {
        signer = bytesOf(key.peerID)
        signature = bytesOf(key.sign(signedBytes))
    }

    /// Exactly the bytes the signature covers.
    var signedBytes: [UInt8] {
        var writer = ByteWriter(capacity: 256)
        writer.raw(Array("atoll/\(type)/1".utf8))
        writer.raw(job)
        writer.u64(epoch)
        writer.u64(sequence)
        writer.u64(expiry)
        writer.raw(body)
        return writer.bytes
    }

    /// The bytes that travel and that the next log entry's `previous` is the hash of.
    public var encoded: [UInt8] {
        do { return try serializedBytes() } catch { preconditionFailure("envelope does not serialise: \(error)") }
    }

    /// Whether these bytes are the envelope as it is written: nothing in them that is not known, or there twice.
    public func isWritten(as bytes: [UInt8]) -> Bool { unknownFields == UnknownStorage() && encoded == bytes }

    /// Checks type, job, expiry, signature and, for signed messages, that no field below 100 is unknown.
    ///
    /// - Parameter wall: seconds since 1970; nil where what was signed stays valid once it was taken, as in a log.
    public func open<Body: Message & Sendable>(
        _ type: EnvelopeType, job: Digest256?, wall: Int64?, as: Body.Type = Body.self
    ) throws(MalformedBytes) -> SignedStatement<Body> {
        guard self.type == type.rawValue else {
            throw MalformedBytes("envelope of type \(self.type), wanted \(type.rawValue)")
        }
        guard let id = PeerID(signer) else { throw MalformedBytes("signer is not a key") }
        if let job, Array(self.job) != job.bytes { throw MalformedBytes("envelope for another job") }
        guard Digest256(self.job) != nil else { throw MalformedBytes("malformed job ID") }
        if let wall, expiry != 0, wall < 0 || expiry <= UInt64(wall) { throw MalformedBytes("it has expired") }
        guard verifySignature(Array(signature), of: signedBytes, by: id) else {
            throw MalformedBytes("signature of \(id.short) does not verify")
        }
        let body: Body
        do { body = try Body(serializedBytes: Array(self.body)) } catch { throw MalformedBytes("body: \(error)") }
        guard body.unknownFields == UnknownStorage() else { throw MalformedBytes("unknown field in a signed message") }
        return SignedStatement(signer: id, sequence: sequence, epoch: epoch, body: body)
    }
}
