import Digests
public import Primitives
import Wire

/// One of the signatures under a claim.
public struct ClaimSignature: Hashable, Sendable {
    public let signer: PeerID
    /// 64.
    public let bytes: [UInt8]
}

/// How signatures under a claim are written: how many (u8), then each signer's key (32) and signature (64), keys ascending.
extension [ClaimSignature] {
    var encodedBytes: Int { 1 + 96 * count }
    func write(to writer: inout ByteWriter) {
        writer.u8(UInt8(count))
        for signature in self {
            writer.raw(signature.signer.bytes)
            writer.raw(signature.bytes)
        }
    }
    init(
        _ reader: inout ByteReader, signers: ClosedRange<Int>, of what: @autoclosure () -> String
    ) throws(MalformedBytes) {
        self.init()
        let count = Int(try reader.u8())
        guard signers.contains(count) else { throw MalformedBytes("\(what()) with \(count) signers") }
        for _ in 0..<count {
            let signer = PeerID(try reader.take(32))!
            if let last, last.signer >= signer { throw MalformedBytes("signers that do not ascend") }
            append(ClaimSignature(signer: signer, bytes: Array<UInt8>(try reader.take(64))))
        }
    }
}
