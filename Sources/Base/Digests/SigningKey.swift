import COpenSSL
public import Primitives

/// An Ed25519 key pair (RFC 8032) from a 32-byte seed. Signing is deterministic.
public struct SigningKey: Sendable {
    /// The secret: 32 bytes, kept on disk with mode 0600 by the drivers.
    public let seed: [UInt8]
    public let peerID: PeerID

    /// - Parameter seed: exactly 32 bytes, else nil.
    public init?(seed: [UInt8]) {
        guard seed.count == 32, let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, seed, 32) else {
            return nil
        }
        defer { EVP_PKEY_free(key) }
        var raw = [UInt8](repeating: 0, count: 32)
        var count = 32
        guard EVP_PKEY_get_raw_public_key(key, &raw, &count) == 1, let id = PeerID(raw) else { return nil }
        self.seed = seed
        peerID = id
    }

    /// 64 bytes over exactly `message`.
    public func sign(_ message: [UInt8]) -> [UInt8] {
        let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, seed, 32)
        let context = EVP_MD_CTX_new()
        defer {
            EVP_MD_CTX_free(context)
            EVP_PKEY_free(key)
        }
        var signature = [UInt8](repeating: 0, count: 64)
        var count = 64
        precondition(EVP_DigestSignInit(context, nil, nil, nil, key) == 1)
        precondition(EVP_DigestSign(context, &signature, &count, message, message.count) == 1 && count == 64)
        return signature
    }
}

/// A key never prints its secret, not even as part of something that holds it.
extension SigningKey: CustomStringConvertible, CustomReflectable {
    public var description: String { "key of \(peerID.short)" }
    public var customMirror: Mirror { Mirror(self, children: ["peerID": peerID]) }
}

/// Whether `signature` (64 bytes) is `signer`'s over exactly `message`. False for anything malformed.
public func verifySignature(_ signature: [UInt8], of message: [UInt8], by signer: PeerID) -> Bool {
    guard signature.count == 64 else { return false }
    let raw = signer.bytes
    guard let key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nil, raw, 32) else { return false }
    let context = EVP_MD_CTX_new()
    defer {
        EVP_MD_CTX_free(context)
        EVP_PKEY_free(key)
    }
    guard EVP_DigestVerifyInit(context, nil, nil, nil, key) == 1 else { return false }
    let valid = EVP_DigestVerify(context, signature, 64, message, message.count) == 1
    ERR_clear_error()
    return valid
}
