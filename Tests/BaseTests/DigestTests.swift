import Digests
import Primitives
import Testing

/// Published vectors: FIPS 180-4 examples, RFC 4231, RFC 8032 §7.1.
@Suite struct `Hashes` {
    @Test(arguments: [
        (
            "", "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        ),
        (
            "abc", "a9993e364706816aba3e25717850c26c9cd0d89d",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        ),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
    ])
    func `agree with the standard's examples`(text: String, sha1Hex: String, sha256Hex: String) {
        let bytes = Array(text.utf8)
        #expect(sha1(bytes).hex == sha1Hex)
        #expect(sha256(bytes).hex == sha256Hex)
        #expect(bytes.withUnsafeBytes { sha256($0) }.hex == sha256Hex)
    }

    /// By a program of its own, from the words of docs/WIRE.md.
    @Test(
        arguments: [
            (0, 0x61b1_5ff9_a1bd_2b19), (31, 0xf2e1_3b5d_8ef4_7a69), (100, 0x4e1a_3a9a_787a_76b7),
        ] as [(Int, UInt64)])
    func `fingerprints are those of the document, and notice each bit and the length`(count: Int, word: UInt64) {
        let bytes = (0..<count).map { UInt8($0) }
        #expect(Fingerprint(bytes).word == word)
        #expect(Fingerprint(bytes + [0]).word != word)
        for bit in 0..<8 * count {
            var other = bytes
            other[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(Fingerprint(other).word != word && Fingerprint(other) != Fingerprint(bytes))
        }
    }

    @Test func `agree with the standard's million letters, whole and in pieces`() {
        let letters = [UInt8](repeating: 0x61, count: 1_000_000)
        let expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        #expect(sha1(letters).hex == "34aa973cd4c4daa4f61eeb2bdbad27316534016f")
        #expect(sha256(letters).hex == expected)
        var stream = SHA256Stream()
        var generator = SeededGenerator(seed: 1)
        var left = letters.count
        while left > 0 {
            let piece = [UInt8](repeating: 0x61, count: min(left, generator.below(10_000)))
            if generator.below(2) == 0 { stream.update(piece) } else { piece.withUnsafeBytes { stream.update($0) } }
            left -= piece.count
        }
        #expect(stream.finish().hex == expected)
    }

    @Test(arguments: [
        (
            [UInt8](repeating: 0x0b, count: 20), "Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        ),
        (
            Array("Jefe".utf8), "what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        ),
        (
            [UInt8](repeating: 0xaa, count: 131), "Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        ),
    ])
    func `with a key agree with RFC 4231`(key: [UInt8], message: String, hex: String) {
        #expect(hmacSHA256(key: key, Array(message.utf8)).hex == hex)
    }

    @Test func `are compared byte by byte`() {
        #expect(constantTimeEqual([], []))
        #expect(constantTimeEqual([1, 2], [1, 2]))
        #expect(!constantTimeEqual([1, 2], [1, 3]))
        #expect(!constantTimeEqual([1, 2], [1, 2, 3]))
    }
}

@Suite struct `Signing keys` {
    static let vectors = [
        (
            seed: "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            key: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", message: "",
            signature: "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555"
                + "fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
        (
            seed: "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            key: "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", message: "72",
            signature: "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da0"
                + "85ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
        (
            seed: "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            key: "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", message: "af82",
            signature: "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac1"
                + "8ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ]

    @Test(arguments: vectors)
    func `sign as RFC 8032 does`(seed: String, key: String, message: String, signature: String) throws {
        let secret = try #require([UInt8](hex: seed))
        let signer = try #require(SigningKey(seed: secret))
        let bytes = try #require([UInt8](hex: message))
        let expected = try #require([UInt8](hex: signature))
        #expect(signer.peerID.hex == key)
        #expect(signer.sign(bytes).hex == signature)
        #expect(verifySignature(expected, of: bytes, by: signer.peerID))
    }

    @Test func `a flipped bit anywhere makes a signature void`() throws {
        let signer = try #require(SigningKey(seed: [UInt8](repeating: 5, count: 32)))
        let other = try #require(SigningKey(seed: [UInt8](repeating: 6, count: 32)))
        let message = Array("a step of training".utf8)
        let signature = signer.sign(message)
        #expect(verifySignature(signature, of: message, by: signer.peerID))
        #expect(!verifySignature(signature, of: message, by: other.peerID))
        for bit in 0..<512 {
            var changed = signature
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(!verifySignature(changed, of: message, by: signer.peerID))
        }
        for bit in 0..<message.count * 8 {
            var changed = message
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(!verifySignature(signature, of: changed, by: signer.peerID))
        }
    }

    @Test(arguments: [0, 31, 33]) func `need a seed of 32 bytes`(count: Int) {
        #expect(SigningKey(seed: [UInt8](repeating: 1, count: count)) == nil)
    }

    @Test(arguments: [0, 63, 65]) func `a signature of another length is void`(count: Int) throws {
        let signer = try #require(SigningKey(seed: [UInt8](repeating: 5, count: 32)))
        #expect(!verifySignature([UInt8](repeating: 0, count: count), of: [], by: signer.peerID))
    }
}
