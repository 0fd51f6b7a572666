import Primitives
import Testing

@Suite struct `Identities` {
    @Test func `survive bytes and hexadecimal digits`() throws {
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<50 {
            let bytes = generator.bytes(32)
            let id = try #require(PeerID(bytes))
            #expect(id.bytes == bytes)
            #expect(PeerID(hex: id.hex) == id)
            #expect(PeerID(hex: id.hex.uppercased()) == id)
            #expect(id.short == String(id.hex.prefix(8)))
            #expect(Digest256(bytes)?.hex == id.hex)
        }
    }

    @Test(arguments: [0, 1, 31, 33, 64]) func `of another length are refused`(count: Int) {
        let bytes = [UInt8](repeating: 1, count: count)
        #expect(PeerID(bytes) == nil)
        #expect(Digest256(bytes) == nil)
        #expect(PeerID(hex: bytes.hex) == nil)
        #expect(Digest256(hex: bytes.hex) == nil)
    }

    @Test(arguments: ["abc", "0g", "0 ", " 0", "é", "0x00"]) func `hexadecimal text with other signs is refused`(
        text: String
    ) {
        #expect([UInt8](hex: text) == nil)
    }

    @Test func `hexadecimal text reads as the bytes it names`() {
        #expect([UInt8](hex: "") == [])
        #expect([UInt8](hex: "00fF7a") == [0, 255, 122])
        #expect(([0, 255, 122] as [UInt8]).hex == "00ff7a")
    }

    @Test func `are ordered bytewise`() throws {
        var generator = SeededGenerator(seed: 2)
        for _ in 0..<200 {
            var (a, b) = (generator.bytes(32), generator.bytes(32))
            // Often alike up to somewhere in the middle.
            let shared = generator.below(32)
            b.replaceSubrange(0..<shared, with: a[0..<shared])
            let (x, y) = (try #require(PeerID(a)), try #require(PeerID(b)))
            #expect((x < y) == a.lexicographicallyPrecedes(b))
            a = b
            #expect(!(y < y))
            #expect(PeerID(a) == y)
        }
    }
}

@Suite struct `Names of peers` {
    @Test(arguments: ["den", "Jürgen", "山 田", "❤️", "a\u{3000}b", "é"]) func `are what people write`(name: String) {
        #expect(isPeerName(name) && cleaned(name, bytes: 40) == name)
    }
    @Test(arguments: [
        "", " ", "\u{200B}", "\u{2800}", "\u{3164}\u{3164}", "\u{00A0}", "\u{3000}", "\u{00AD}", "\u{FE0F}", "\u{034F}",
        "\u{115F}\u{1160}", "\u{2003}\u{2800}", "\u{E0041}", "\u{180E}", "\u{FFA0}",
    ])
    func `of which nothing can be seen are none`(name: String) {
        #expect(!isPeerName(name) && cleaned(name, bytes: 40) == "")
    }
    @Test func `have no letter that shows nothing among others`() {
        #expect(!isPeerName("ad\u{3164}a") && cleaned("ad\u{3164}a\u{00AD}", bytes: 40) == "ada")
    }
}

@Suite struct `Endpoints` {
    @Test(arguments: [
        "127.0.0.1:4000", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:1", "[2001:db8::ff]:443",
    ])
    func `read what they write`(text: String) throws {
        let endpoint = try #require(Endpoint(text))
        #expect(endpoint.description == text)
        #expect(Endpoint(compact: endpoint.compact) == endpoint)
        #expect(Endpoint(address: endpoint.address, port: endpoint.port) == endpoint)
    }

    /// RFC 5952 §4: zeros are left out once, where the run is longest, and never for a single group.
    @Test(arguments: [
        ("[2001:db8:0:0:1:0:0:1]:7", "[2001:db8::1:0:0:1]:7"), ("[0:0:0:0:0:0:0:0]:1", "[::]:1"),
        ("[2001:db8:0:1:1:1:1:1]:9", "[2001:db8:0:1:1:1:1:1]:9"), ("[fe80:0:0:0:1:2:3:4]:9", "[fe80::1:2:3:4]:9"),
        ("[1:2:3:4:5:6:0:0]:9", "[1:2:3:4:5:6::]:9"), ("[1:0:0:2:0:0:0:3]:9", "[1:0:0:2::3]:9"),
        ("[1::]:5", "[1::]:5"),
    ])
    func `IPv6 is written the short way and read back`(text: String, short: String) {
        #expect(Endpoint(text)?.description == short)
        #expect(Endpoint(short) == Endpoint(text))
    }

    @Test(arguments: [
        "", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0:1", "127.0.0.1.2:1", "127.0.0.256:1",
        "127.0.0.+1:1", "127..0.1:1", "a.b.c.d:1", "example.org:80", "[::1]", "[::1:1", "[1:2:3]:1",
        "[1:2:3:4:5:6:7:8:9]:1",
        "[1::2::3]:1", "[12345::]:1", "[g::]:1", "[1:2:3:4:5:6:7:8::]:1", "::1:80",
    ])
    func `malformed text is refused`(text: String) {
        #expect(Endpoint(text) == nil)
    }

    @Test(arguments: [0, 4, 5, 7, 16, 17, 19]) func `a compact form of another length is refused`(count: Int) {
        #expect(Endpoint(compact: [UInt8](repeating: 9, count: count)) == nil)
    }

    @Test(arguments: [
        ("127.3.2.1:1", true, true), ("10.9.9.9:1", false, true), ("172.15.0.1:1", false, false),
        ("172.16.0.1:1", false, true), ("172.31.0.1:1", false, true), ("172.32.0.1:1", false, false),
        ("192.168.0.1:1", false, true), ("192.169.0.1:1", false, false), ("169.254.7.7:1", false, true),
        ("8.8.8.8:1", false, false), ("[::1]:1", true, true), ("[fd00::1]:1", false, true),
        ("[fe80::1]:1", false, true),
        ("[2001:db8::1]:1", false, false),
    ])
    func `know the loopback and the private ranges`(text: String, loopback: Bool, isPrivate: Bool) throws {
        let endpoint = try #require(Endpoint(text))
        #expect(endpoint.isLoopback == loopback)
        #expect(endpoint.isPrivate == isPrivate)
    }
}

@Suite struct `Codec names` {
    @Test(arguments: [
        Codec.fp32, .bf16, .fp16, .int8, .int4, .sparse(k: 1), .sparse(k: 64), .sparse(k: 1024),
        .sparse(k: 64, values: .sign), .sparse(k: 64, values: .twoBit), .lowrank(rank: 4),
    ])
    func `name the codec they describe`(codec: Codec) {
        #expect(Codec(codec.description) == codec)
        #expect(codec.isLossless == (codec == .fp32))
        #expect(codec.expectedBytes(for: 4096) >= Int(codec.bitsPerValue * 512))
    }

    @Test func `options may be spelled out and come in any order`() {
        #expect(Codec("sparse:k=64,values=sign-magnitude") == .sparse(k: 64))
        #expect(Codec("sparse:values=2-bit,k=7") == .sparse(k: 7, values: .twoBit))
        #expect(Codec("lowrank:r=64") == .lowrank(rank: 64))
    }

    @Test(arguments: [
        "", "FP32", "fp32:", "fp16:k=1", "sparse", "sparse:k=6,k=7", "sparse:k=6,values=", "sparse:k=6,bits=2",
        "lowrank", "lowrank:r=0", "lowrank:r=65", "lowrank:k=4", "sparse:k=", "sparse:k=0", "sparse:k=1025",
        "sparse:k=-1", "sparse:k=6x",
    ])
    func `others are refused`(text: String) {
        #expect(Codec(text) == nil)
    }

    @Test func `a sparser codec is a smaller one`() {
        let ks = [1, 8, 32, 64, 128, 256]
        let sizes = ks.map { Codec.sparse(k: $0).bitsPerValue }
        #expect(sizes == sizes.sorted())
        #expect(sizes.last! < Codec.int4.bitsPerValue)
    }
}
