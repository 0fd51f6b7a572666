import COpenSSL
import Digests
public import Flows

/// Seals of flows from a pool's key: AES-128-GCM (NIST SP 800-38D, RFC 5116). Of HMAC-SHA-256(pool key, `atoll flow seal ` ‖ context) 16 bytes are the
/// key, the 12 behind them the nonce of packet 0; a packet's number is added to that by exclusive or, as TLS does (RFC 8446, §5.3).
///
/// It keeps strangers out, no more: whoever has the pool's key can make every seal. What is secret is so by TLS inside.
public struct FlowSeals: SealMaker {
    private let poolKey: [UInt8]
    /// - Parameter poolKey: 32 bytes.
    public init(poolKey: [UInt8]) { self.poolKey = poolKey }
    public func seal(for context: [UInt8]) -> any PacketSeal {
        GCMSeal(hmacSHA256(key: poolKey, Array("atoll flow seal ".utf8) + context))
    }
}

/// Used in one direction only, by one thread.
private final class GCMSeal: PacketSeal, @unchecked Sendable {
    /// With its key scheduled.
    private let context: OpaquePointer
    /// Of packet 0: the first four bytes, and the eight that the number is added to.
    private let nonce: (head: UInt32, tail: UInt64)
    private static let tagBytes = Int32(FlowLimits.tag)

    init(_ secret: [UInt8]) {
        let nonce = secret.withUnsafeBytes {
            (
                $0.loadUnaligned(fromByteOffset: 16, as: UInt32.self),
                $0.loadUnaligned(fromByteOffset: 20, as: UInt64.self)
            )
        }
        self.nonce = nonce
        guard let made = EVP_CIPHER_CTX_new(), EVP_CipherInit_ex(made, EVP_aes_128_gcm(), nil, secret, nil, 1) == 1
        else { preconditionFailure("libcrypto lacks AES-128-GCM") }
        context = made
    }
    deinit { EVP_CIPHER_CTX_free(context) }

    func seal(_ packet: UnsafeMutableRawBufferPointer, clear: Int, number: UInt64) {
        begin(number, encrypts: 1)
        let (text, tag) = run(packet, clear)
        var count: Int32 = 0
        let isSealed =
            EVP_CipherFinal_ex(context, text, &count) == 1
            && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, Self.tagBytes, tag) == 1
        precondition(isSealed, "libcrypto cannot seal a packet")
    }
    func open(_ packet: UnsafeMutableRawBufferPointer, clear: Int, number: UInt64) -> Bool {
        guard packet.count >= clear + FlowLimits.tag else { return false }
        begin(number, encrypts: 0)
        let (text, tag) = run(packet, clear)
        var count: Int32 = 0
        return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Self.tagBytes, tag) == 1
            && EVP_CipherFinal_ex(context, text, &count) == 1
    }

    /// On the stack: this is done for each packet.
    private func begin(_ number: UInt64, encrypts: Int32) {
        var place = (nonce.head, UInt32(0), UInt32(0))
        withUnsafeMutableBytes(of: &place) {
            $0.storeBytes(of: nonce.tail ^ number.bigEndian, toByteOffset: 4, as: UInt64.self)
            EVP_CipherInit_ex(context, nil, nil, nil, $0.baseAddress!.assumingMemoryBound(to: UInt8.self), encrypts)
        }
    }
    /// - Returns: where the text begins and where the tag is.
    private func run(
        _ packet: UnsafeMutableRawBufferPointer, _ clear: Int
    ) -> (text: UnsafeMutablePointer<UInt8>, tag: UnsafeMutableRawPointer) {
        let bytes = packet.baseAddress!.assumingMemoryBound(to: UInt8.self)
        let end = packet.count - FlowLimits.tag
        var count: Int32 = 0
        EVP_CipherUpdate(context, nil, &count, bytes, Int32(clear))
        if end > clear { EVP_CipherUpdate(context, bytes + clear, &count, bytes + clear, Int32(end - clear)) }
        return (bytes + clear, packet.baseAddress! + end)
    }
}
