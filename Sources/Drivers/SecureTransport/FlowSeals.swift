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
    private let key: [UInt8]
    private let nonce: [UInt8]
    /// With its key scheduled, for whichever direction came first.
    private var context: OpaquePointer?
    private static let tagBytes = Int32(FlowLimits.tag)

    init(_ secret: [UInt8]) {
        key = Array(secret[0..<16])
        nonce = Array(secret[16..<28])
    }
    deinit { EVP_CIPHER_CTX_free(context) }

    func seal(_ packet: UnsafeMutableRawBufferPointer, clear: Int, number: UInt64) {
        let context = begin(number, encrypts: 1)
        let (text, tag) = run(context, packet, clear)
        var count: Int32 = 0
        let isSealed =
            EVP_CipherFinal_ex(context, text, &count) == 1
            && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, Self.tagBytes, tag) == 1
        precondition(isSealed, "libcrypto cannot seal a packet")
    }
    func open(_ packet: UnsafeMutableRawBufferPointer, clear: Int, number: UInt64) -> Bool {
        guard packet.count >= clear + FlowLimits.tag else { return false }
        let context = begin(number, encrypts: 0)
        let (text, tag) = run(context, packet, clear)
        var count: Int32 = 0
        return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Self.tagBytes, tag) == 1
            && EVP_CipherFinal_ex(context, text, &count) == 1
    }

    private func begin(_ number: UInt64, encrypts: Int32) -> OpaquePointer {
        var nonce = nonce
        for n in 0..<8 { nonce[4 + n] ^= UInt8(truncatingIfNeeded: number >> UInt64(56 - 8 * n)) }
        if let context {
            EVP_CipherInit_ex(context, nil, nil, nil, nonce, encrypts)
            return context
        }
        guard let made = EVP_CIPHER_CTX_new(),
            EVP_CipherInit_ex(made, EVP_aes_128_gcm(), nil, key, nonce, encrypts) == 1
        else { preconditionFailure("libcrypto lacks AES-128-GCM") }
        context = made
        return made
    }
    /// - Returns: where the text begins and where the tag is.
    private func run(
        _ context: OpaquePointer, _ packet: UnsafeMutableRawBufferPointer, _ clear: Int
    ) -> (text: UnsafeMutablePointer<UInt8>, tag: UnsafeMutableRawPointer) {
        let bytes = packet.baseAddress!.assumingMemoryBound(to: UInt8.self)
        let end = packet.count - FlowLimits.tag
        var count: Int32 = 0
        EVP_CipherUpdate(context, nil, &count, bytes, Int32(clear))
        if end > clear { EVP_CipherUpdate(context, bytes + clear, &count, bytes + clear, Int32(end - clear)) }
        return (bytes + clear, packet.baseAddress! + end)
    }
}
