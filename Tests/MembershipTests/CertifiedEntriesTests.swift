import Consensus
import Digests
import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Testing
import Wire

/// The launcher is number 0.
private enum CertifiedKeys {
    static func key(_ number: Int) -> SigningKey { number == 0 ? Small.launcher : Small.key(number) }
}

/// Where several electors carry the record, a member acts on nobody's word alone.
@Suite struct `Entries with a certificate` {
    /// What electors have written, and a member's desk that has the genesis.
    private struct Log {
        var record: Record
        var desk: LogDesk
        init() throws {
            let genesis = Genesis(
                manifest: "m", electors: [Small.launcher.peerID], content: sha256([1]), contentBytes: 10,
                nonce: [UInt8](repeating: 1, count: 32), lease: .seconds(15), silence: .seconds(5))
            record = try Record(genesis: Record.sign(genesis, by: Small.launcher)) { _ in
                var parameters = Small.parameters()
                parameters.electors = 3
                return parameters
            }
            desk = LogDesk(record)
        }
        mutating func append(_ entry: Entry) throws { _ = try record.propose(entry, term: 1, by: Small.launcher) }
        func certificate(of size: Int, by numbers: [Int], root: Digest256? = nil) -> Certificate {
            var tree = MerkleFrontier()
            for index in 0..<size { tree.append(record.leaf(index).hash) }
            let claim = LogClaim(
                job: record.job, term: record.leaf(size - 1).term, size: size, root: root ?? tree.root)
            return Certificate(numbers.map { Ack(claim, by: CertifiedKeys.key($0)) })!
        }
        /// What the member acts on when it is sent entries from an index on.
        mutating func send(_ from: Int, _ certificate: Certificate?) -> Int {
            let entries = LogEntries(
                Array(record.envelopes[from...]), length: record.length, certificate: certificate)
            return desk.receive(entries, from: Small.launcher.peerID, isLeader: true, at: .zero).count
        }
    }
    private static let three = Electorate(voters: [0, 1, 2].map { CertifiedKeys.key($0).peerID })!

    /// The launcher alone, then three electors.
    private func log() throws -> Log {
        var log = try Log()
        try log.append(.opening(Opening(reason: "begins")))
        let joint = try #require(log.record.electorate.changing(to: Self.three.voters))
        try log.append(.electors(ElectorsChange(joint, reason: "chosen")))
        let proof = log.certificate(of: 3, by: [0, 1])
        try log.append(.electors(ElectorsChange(joint.changed, proof: proof, reason: "agreed")))
        return log
    }

    @Test func `are acted on when a quorum has signed for them, and wait until then`() throws {
        var log = try log()
        #expect(log.send(1, nil) == 0)
        #expect(log.send(1, log.certificate(of: 4, by: [0])) == 0)
        #expect(log.send(1, log.certificate(of: 4, by: [1, 2])) == 3)
        #expect(log.desk.record.electors == Self.three.voters && log.desk.record.committed == 4)
        try log.append(.members(MembersChange(round: 0)))
        try log.append(.members(MembersChange(round: 1)))
        // Certified so far only.
        #expect(log.send(4, log.certificate(of: 5, by: [0, 2])) == 1)
        #expect(log.send(6, log.certificate(of: 6, by: [0, 1])) == 1)
        #expect(log.desk.record.envelopes == log.record.envelopes)
    }

    /// A new era may begin with the newest certificate that somebody has on its disk: the last was written when another came, and none came.
    @Test func `have their certificate on disk a second later, also when no more come`() throws {
        var log = try log()
        func stored() -> [Int] {
            var sizes: [Int] = []
            while let effect = log.desk.poll() {
                if case .store(.certificate(let certificate)) = effect { sizes.append(certificate.claim.size) }
            }
            return sizes
        }
        #expect(log.send(1, log.certificate(of: 4, by: [1, 2])) == 3)
        #expect(stored() == [4] && log.desk.nextProof == nil)
        for number in 0..<3 {
            try log.append(.members(MembersChange(round: number)))
            #expect(log.send(4 + number, log.certificate(of: 5 + number, by: [0, 2])) == 1)
        }
        let due = try #require(log.desk.nextProof)
        #expect(stored() == [] && due <= .zero + .seconds(1))
        log.desk.wakeProof(at: due - .milliseconds(1))
        #expect(stored() == [])
        log.desk.wakeProof(at: due)
        #expect(stored() == [7] && log.desk.nextProof == nil)
    }

    @Test func `are not acted on where the certificate is of another log, or of strangers`() throws {
        var log = try log()
        #expect(log.send(1, log.certificate(of: 4, by: [0, 1], root: sha256([7]))) == 0)
        #expect(log.send(1, log.certificate(of: 4, by: [0, 5])) == 0)
        #expect(log.send(1, log.certificate(of: 4, by: [0, 1])) == 3)
    }

    @Test func `of two logs are kept, as proof that electors lie`() throws {
        var log = try log()
        #expect(log.send(1, log.certificate(of: 4, by: [0, 1])) == 3)
        func proofs(_ desk: inout LogDesk) -> [Contradiction] {
            var out: [Contradiction] = []
            while let effect = desk.poll() { if case .store(.contradiction(let proof)) = effect { out.append(proof) } }
            return out
        }
        // The same again; by strangers; and then a quorum's signatures under another log of the same size and term.
        for certificate in [
            log.certificate(of: 4, by: [1, 2]), log.certificate(of: 4, by: [5, 6], root: sha256([7])),
            log.certificate(of: 4, by: [1], root: sha256([7])),
        ] {
            _ = log.send(1, certificate)
            #expect(proofs(&log.desk).isEmpty)
        }
        let other = log.certificate(of: 4, by: [1, 2], root: sha256([7]))
        _ = log.send(1, other)
        let found = proofs(&log.desk)
        #expect(found.count == 1 && found.first?.liars == [CertifiedKeys.key(1).peerID])
        // What is here stays, and it is said once.
        _ = log.send(1, other)
        #expect(proofs(&log.desk).isEmpty && log.desk.record.envelopes == log.record.envelopes)
    }

    @Test func `make electors only with a quorum of those before and those after`() throws {
        var log = try Log()
        let joint = try #require(log.record.electorate.changing(to: Self.three.voters))
        try log.append(.electors(ElectorsChange(joint, reason: "chosen")))
        let alone = log.certificate(of: 2, by: [0])
        let old = log.certificate(of: 1, by: [0, 1])
        for proof in [nil, alone, old] {
            #expect(throws: MalformedBytes.self) {
                try log.append(.electors(ElectorsChange(joint.changed, proof: proof, reason: "agreed")))
            }
        }
        try log.append(
            .electors(ElectorsChange(joint.changed, proof: log.certificate(of: 2, by: [0, 2]), reason: "agreed")))
        #expect(log.record.electorate == Self.three)
        // Whoever has the genesis alone can follow how it came.
        let first = try Record(genesis: log.record.envelopes[0]) { _ in Small.parameters() }
        #expect(try first.electors(after: log.record.electorChanges).electors == Self.three.voters)
        #expect(throws: MalformedBytes.self) { try first.electors(after: [log.record.envelopes[2]]) }
        // What was not for ever can be taken back.
        #expect(log.record.truncated(to: 2).electorate == joint)
    }
}
