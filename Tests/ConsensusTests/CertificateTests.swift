import Consensus
import Digests
import Primitives
import Testing
import Wire

@Suite struct `A certificate` {
    private func key(_ index: Int) -> SigningKey {
        SigningKey(seed: SeededGenerator.bytes(32, seed: 9, stream: UInt64(index)))!
    }
    private func electors(_ count: Int) -> Electorate { Electorate(voters: (0..<count).map { key($0).peerID })! }
    private let job = sha256([1, 2, 3])
    private func claim(term: Int = 1, size: Int = 5, _ content: UInt8 = 0, era: Int = 0) -> LogClaim {
        LogClaim(job: job, era: era, term: term, size: size, root: sha256([content]))
    }
    private func certificate(_ claim: LogClaim, by signers: [Int]) -> Certificate {
        Certificate(signers.map { Ack(claim, by: key($0)) })!
    }

    @Test func `is what a quorum of electors signs, and can be read back`() throws {
        let certificate = certificate(claim(), by: [2, 0])
        try certificate.check(job: job, electors(3))
        let bytes = certificate.encoded
        #expect(bytes.count == 89 + 2 * 96)
        #expect(try Certificate(encoded: bytes) == certificate)
        #expect(Array(bytes[..<32]) == job.bytes && bytes[40] == 1 && bytes[48] == 5 && bytes[88] == 2)
        #expect(claim().signedBytes == Array("atoll/ack/1".utf8) + bytes[..<88])
    }

    @Test func `of too few, of strangers, of another job, or with a bit changed is refused`() {
        let three = electors(3)
        #expect(throws: MalformedBytes.self) { try certificate(claim(), by: [1]).check(job: job, three) }
        #expect(throws: MalformedBytes.self) { try certificate(claim(), by: [0, 1, 5]).check(job: job, three) }
        #expect(throws: MalformedBytes.self) { try certificate(claim(), by: [0, 1]).check(job: sha256([9]), three) }
        let joint = three.changing(to: (3...5).map { key($0).peerID })!
        #expect(throws: MalformedBytes.self) { try certificate(claim(), by: [0, 1, 3]).check(job: job, joint) }
        #expect(throws: Never.self) { try certificate(claim(), by: [0, 1, 3, 5]).check(job: job, joint) }
        let good = certificate(claim(), by: [0, 1]).encoded
        for place in good.indices {
            var bad = good
            bad[place] ^= 1
            #expect(throws: MalformedBytes.self, "byte \(place)") {
                try Certificate(encoded: bad).check(job: job, three)
            }
        }
        for length in good.indices {
            #expect(throws: MalformedBytes.self) { try Certificate(encoded: Array(good[..<length])) }
        }
        #expect(throws: MalformedBytes.self) { try Certificate(encoded: good + [0]) }
        #expect(Certificate([]) == nil)
        #expect(Certificate([Ack(claim(), by: key(0)), Ack(claim(), by: key(0))]) == nil)
        #expect(Certificate([Ack(claim(), by: key(0)), Ack(claim(size: 6), by: key(1))]) == nil)
    }

    @Test func `and another of the same size convict whoever signed both in one term`() throws {
        let one = certificate(claim(), by: [0, 1])
        #expect(CertificateConflict(one, certificate(claim(), by: [1, 2])) == nil, "the same is said twice")
        #expect(CertificateConflict(one, certificate(claim(size: 6, 1), by: [1, 2])) == nil)
        #expect(CertificateConflict(one, certificate(claim(1, era: 1), by: [1, 2])) == nil, "it was founded anew")
        let conflict = try #require(CertificateConflict(one, certificate(claim(1), by: [1, 2])))
        #expect(conflict.liars == [key(1).peerID])
        let later = try #require(CertificateConflict(one, certificate(claim(term: 2, 1), by: [1, 2])))
        #expect(later.inBoth == [key(1).peerID] && later.liars.isEmpty)
    }

    @Test func `that contradicts another is a proof that is kept, read back, and stands for itself`() throws {
        let three = electors(3)
        let acks = try #require(Contradiction(Ack(claim(), by: key(1)), Ack(claim(1), by: key(1))))
        let conflict = try #require(
            CertificateConflict(certificate(claim(), by: [0, 1]), certificate(claim(term: 2, 1), by: [1, 2])))
        let all = [acks, .certificates(conflict)]
        var reader = ByteReader(all.flatMap(\.encoded))
        for proof in all {
            #expect(try Contradiction(&reader) == proof)
            try proof.check(job: job, three, era: 0)
            #expect(throws: MalformedBytes.self) { try proof.check(job: sha256([1]), three, era: 0) }
            #expect(throws: MalformedBytes.self) { try proof.check(job: job, three, era: 1) }
            #expect(throws: MalformedBytes.self) {
                try proof.check(job: job, Electorate(voters: [key(8).peerID])!, era: 0)
            }
            for place in proof.encoded.indices {
                var bad = proof.encoded
                bad[place] ^= 1
                #expect(throws: MalformedBytes.self, "byte \(place)") {
                    var reader = ByteReader(bad)
                    try Contradiction(&reader).check(job: job, three, era: 0)
                }
            }
        }
        #expect(acks.liars == [key(1).peerID] && acks.what.contains("has signed two logs of term 1 and 5 entries"))
        #expect(all[1].liars.isEmpty && all[1].what.contains("of terms 1 and 2"))
        // Two signers, two sizes, two terms, the same twice.
        let first = Ack(claim(), by: key(1))
        for other in [
            Ack(claim(1), by: key(2)), Ack(claim(size: 6, 1), by: key(1)), Ack(claim(term: 2, 1), by: key(1)), first,
        ] {
            #expect(Contradiction(first, other) == nil)
        }
    }

    @Test func `is gathered from acks in any order, once`() throws {
        let five = electors(5)
        var collector = AckCollector(job: job)
        let acks = [1, 3, 4].map { Ack(claim(), by: key($0)) }
        #expect(collector.add(acks[0], five) == .nothing)
        #expect(collector.add(acks[0], five) == .nothing)
        #expect(collector.add(Ack(claim(size: 4, 7), by: key(3)), five) == .nothing)
        #expect(collector.add(acks[2], five) == .nothing)
        #expect(collector.add(acks[1], five) == .certified(try #require(Certificate(acks))))
        try #require(collector.newest).check(job: job, five)
        #expect(collector.add(Ack(claim(), by: key(0)), five) == .nothing, "it is certified already")
        // Liars, strangers, other jobs and eras.
        let proof = try #require(Contradiction(acks[0], Ack(claim(1), by: key(1))))
        #expect(collector.add(Ack(claim(1), by: key(1)), five) == .lied(proof))
        // What nobody has signed convicts nobody.
        let planted = Ack(claim(2), signer: key(3).peerID, signature: Ack(claim(2), by: key(1)).signature)
        #expect(collector.add(planted, five) == .nothing)
        #expect(collector.add(Ack(claim(size: 9), by: key(8)), five) == .nothing)
        #expect(collector.add(Ack(claim(size: 9, era: 1), by: key(1)), five) == .nothing)
        let forged = Ack(claim(size: 9), signer: key(2).peerID, signature: Ack(claim(size: 9), by: key(1)).signature)
        #expect(collector.add(forged, five) == .nothing)
        #expect(collector.refused == 4)
        for size in 10..<200 { #expect(collector.add(Ack(claim(size: size), by: key(1)), five) == .nothing) }
    }
}

@Suite struct `A Merkle frontier` {
    /// RFC 6962, §2.1, as it is written.
    private func naive(_ leaves: ArraySlice<Digest256>) -> Digest256 {
        if leaves.isEmpty { return sha256([]) }
        if leaves.count == 1 { return leaves.first! }
        var half = 1
        while half * 2 < leaves.count { half *= 2 }
        let middle = leaves.startIndex + half
        return sha256([1] + naive(leaves[..<middle]).bytes + naive(leaves[middle...]).bytes)
    }

    @Test func `has the root of the tree over all its leaves at every size`() {
        var frontier = MerkleFrontier()
        var leaves: [Digest256] = []
        for size in 0...130 {
            #expect(frontier.root == naive(leaves[...]) && frontier.count == size)
            leaves.append(MerkleFrontier.leaf([UInt8(size)]))
            frontier.append(leaves.last!)
        }
    }

    /// Of the Certificate Transparency project's test data.
    @Test func `has the published roots`() {
        let inputs = [
            "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
        ]
        let roots = [
            1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ]
        var frontier = MerkleFrontier()
        for (index, input) in inputs.enumerated() {
            frontier.append(MerkleFrontier.leaf([UInt8](hex: input)!))
            if let root = roots[index + 1] { #expect(frontier.root.hex == root) }
        }
    }
}
