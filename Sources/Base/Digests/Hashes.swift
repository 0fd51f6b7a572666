import COpenSSL
public import Primitives

/// Looked up once: each use of `EVP_sha256()` would look for whoever provides it.
private enum Algorithm {
    nonisolated(unsafe) static let sha1 = EVP_MD_fetch(nil, "SHA1", nil)
    nonisolated(unsafe) static let sha256 = EVP_MD_fetch(nil, "SHA256", nil)
}

/// SHA-1 (FIPS 180-4): overlay targets only (BEP 5, BEP 44), never where collisions matter.
public func sha1(_ bytes: some Collection<UInt8>) -> [UInt8] { digest([UInt8](bytes), Algorithm.sha1, 20) }

/// SHA-256 (FIPS 180-4).
public func sha256(_ bytes: some Collection<UInt8>) -> Digest256 {
    Digest256(digest([UInt8](bytes), Algorithm.sha256, 32))!
}

/// SHA-256 of a raw buffer, for weights and chunks.
public func sha256(_ bytes: UnsafeRawBufferPointer) -> Digest256 {
    var out = [UInt8](repeating: 0, count: 32)
    var length: UInt32 = 0
    let done = EVP_Digest(bytes.baseAddress, bytes.count, &out, &length, Algorithm.sha256, nil)
    precondition(done == 1 && length == 32, "SHA-256 unavailable in libcrypto")
    return Digest256(out)!
}

/// HMAC-SHA-256 (RFC 2104).
public func hmacSHA256(key: [UInt8], _ message: [UInt8]) -> [UInt8] {
    var out = [UInt8](repeating: 0, count: 32)
    var length: UInt32 = 0
    let result = HMAC(Algorithm.sha256, key, Int32(key.count), message, message.count, &out, &length)
    precondition(result != nil && length == 32, "HMAC-SHA-256 unavailable in libcrypto")
    return out
}

/// Equality in time that depends on the length only.
public func constantTimeEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    a.count == b.count && CRYPTO_memcmp(a, b, a.count) == 0
}

/// A running SHA-256.
public struct SHA256Stream: ~Copyable {
    private let context: OpaquePointer
    public init() {
        context = EVP_MD_CTX_new()
        precondition(EVP_DigestInit_ex(context, Algorithm.sha256, nil) == 1)
    }
    private init(_ context: OpaquePointer) { self.context = context }
    deinit { EVP_MD_CTX_free(context) }
    /// Another that has seen the same.
    public func copy() -> SHA256Stream {
        let other = EVP_MD_CTX_new()
        precondition(EVP_MD_CTX_copy_ex(other, context) == 1)
        return SHA256Stream(other!)
    }
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
    }
    public mutating func update(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { _ = EVP_DigestUpdate(context, $0.baseAddress, $0.count) }
    }
    public mutating func finish() -> Digest256 {
        var out = [UInt8](repeating: 0, count: 32)
        var length: UInt32 = 0
        precondition(EVP_DigestFinal_ex(context, &out, &length) == 1)
        return Digest256(out)!
    }
}

private func digest(_ bytes: [UInt8], _ kind: OpaquePointer?, _ size: Int) -> [UInt8] {
    var out = [UInt8](repeating: 0, count: size)
    var length: UInt32 = 0
    let done = EVP_Digest(bytes, bytes.count, &out, &length, kind, nil)
    precondition(done == 1 && Int(length) == size, "digest unavailable in libcrypto")
    return out
}
