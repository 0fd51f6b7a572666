import Consensus
import Digests
import Primitives
import Testing
import Wire

/// What recovery keys sign so that somebody may found a job anew, and the file in which signatures are gathered.
@Suite struct `Recovery keys` {
    private func key(_ index: Int) -> SigningKey {
        SigningKey(seed: SeededGenerator.bytes(32, seed: 19, stream: UInt64(index)))!
    }
    private let job = sha256([1, 2, 3])
    private var keys: RecoveryKeys { RecoveryKeys(needed: 2, of: (0..<3).map { key($0).peerID })! }
    private func claim(era: Int = 1, size: Int = 412) -> RecoveryClaim {
        RecoveryClaim(job: job, era: era, size: size, root: sha256([7]), founder: key(9).peerID)
    }
    private func grant(_ signers: Int...) -> RecoveryGrant {
        var out = RecoveryGrant(claim())
        for signer in signers { out.sign(by: key(signer)) }
        return out
    }

    @Test func `agree when so many of them have signed for this job, era and machine`() throws {
        try grant(2, 0).check(job: job, era: 1, founder: key(9).peerID, keys)
        try grant(2, 0, 1).check(job: job, era: 1, founder: key(9).peerID, keys)
        for (grant, job, era, founder) in [
            (grant(1), job, 1, 9), (grant(), job, 1, 9), (grant(1, 5), job, 1, 9), (grant(0, 1, 5), job, 1, 9),
            (grant(0, 1), sha256([9]), 1, 9), (grant(0, 1), job, 2, 9), (grant(0, 1), job, 1, 8),
        ] {
            #expect(throws: MalformedBytes.self) {
                try grant.check(job: job, era: era, founder: key(founder).peerID, keys)
            }
        }
        // Nobody counts twice.
        #expect(grant(1, 1).signers.count == 1)
    }

    @Test func `are between one and sixteen, none of them twice, and no more needed than there are`() {
        let all = (0..<17).map { key($0).peerID }
        #expect(RecoveryKeys(needed: 16, of: Array(all.prefix(16))) != nil)
        for (needed, keys) in [
            (0, Array(all.prefix(2))), (3, Array(all.prefix(2))), (1, []), (1, all), (1, [all[0], all[0]]),
        ] {
            #expect(RecoveryKeys(needed: needed, of: keys) == nil)
        }
    }

    @Test func `sign exactly the bytes that are written down, and any other bit is refused`() throws {
        let grant = grant(0, 2)
        let bytes = grant.encoded
        #expect(bytes.count == 113 + 2 * 96 && bytes[112] == 2)
        #expect(claim().signedBytes == Array("atoll/refound/1".utf8) + bytes[..<112])
        #expect(Array(bytes[..<32]) == job.bytes && bytes[32] == 1 && bytes[40] == 156 && bytes[41] == 1)
        #expect(try RecoveryGrant(encoded: bytes) == grant)
        for place in bytes.indices {
            var bad = bytes
            bad[place] ^= 1
            #expect(throws: MalformedBytes.self, "byte \(place)") {
                try RecoveryGrant(encoded: bad).check(job: job, era: 1, founder: key(9).peerID, keys)
            }
        }
        for length in bytes.indices {
            #expect(throws: MalformedBytes.self) { try RecoveryGrant(encoded: Array(bytes[..<length])) }
        }
    }

    @Test func `are gathered in a file that is passed around`() throws {
        var file = RecoveryFile(RecoveryGrant(claim()), keys)
        #expect(file.missing == 2)
        // Each reads what the one before has written.
        for signer in [1, 0] {
            file = try RecoveryFile(parsing: file.text)
            try file.sign(by: key(signer))
        }
        let read = try RecoveryFile(parsing: file.text + "\n# thanks\n")
        #expect(read == file && read.missing == 0)
        try read.grant.check(job: job, era: 1, founder: key(9).peerID, keys)
        #expect(throws: MalformedBytes.self) { try file.sign(by: key(5)) }
    }

    @Test func `are not taken from a file that is damaged, and the line is named`() throws {
        let file = RecoveryFile(grant(0, 1), keys)
        let lines = file.text.split(separator: "\n").map(String.init)
        func error(_ lines: [String]) -> String? {
            do throws(MalformedBytes) { _ = try RecoveryFile(parsing: lines.joined(separator: "\n")) } catch {
                return error.description
            }
            return nil
        }
        #expect(error(lines) == nil)
        #expect(error([]) != nil)
        for (index, line) in lines.enumerated() where !line.hasPrefix("#") {
            // Cut short, another digit, left out.
            #expect(
                error(lines.with(index, String(line.dropLast()) + "%"))?.contains("line \(index + 1)") == true,
                "\(line)")
            // Without a key that has not signed it is a file of fewer keys: the manifest decides.
            if !line.hasPrefix("signed"), !line.hasPrefix("key") {
                var fewer = lines
                fewer.remove(at: index)
                #expect(error(fewer) != nil, "\(line)")
            }
        }
        // A signature under another size.
        let place = try #require(lines.firstIndex { $0.hasPrefix("entries") })
        #expect(error(lines.with(place, "entries 413"))?.contains("is not of this") == true)
        #expect(error(lines + [lines.last!])?.contains("has signed twice") == true)
        let stranger = "signed \(key(7).peerID.hex) \(key(7).sign(claim().signedBytes).hex)"
        #expect(error(lines + [stranger])?.contains("none of the keys") == true)
        #expect(error(lines + ["hello"])?.contains("line \(lines.count + 1)") == true)
    }
}

extension [String] {
    fileprivate func with(_ index: Int, _ line: String) -> [String] {
        var out = self
        out[index] = line
        return out
    }
}
