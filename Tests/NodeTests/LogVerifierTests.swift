import Consensus
import Digests
import Foundation
import JobFixtures
import Messages
import Node
import Primitives
import Record
import Testing
import Wire

@Suite struct `A log that is verified alone` {
    private static let format = Array("atoll-log 3\n".utf8)

    private func script() throws -> Script {
        var script = try Script()
        try script.join([1, 2])
        try script.plan(Small.plan([[1], [2]]))
        for _ in 0..<4 { try script.seal([0, 1]) }
        return script
    }
    private func record(_ envelope: PBEnvelope) -> [UInt8] {
        var writer = ByteWriter()
        let bytes = envelope.encoded
        writer.u32(UInt32(bytes.count))
        writer.raw(sha256(bytes).bytes.prefix(8))
        writer.raw(bytes)
        return writer.bytes
    }
    private func file(_ envelopes: [PBEnvelope]) -> [UInt8] { Self.format + envelopes.flatMap { record($0) } }
    private func verify(_ log: [UInt8], certificate: [UInt8]? = nil, job: Digest256? = nil) -> LogVerdict {
        LogVerifier.verify(log: log, certificate: certificate, job: job, parse: { _ in Small.parameters() })
    }
    private func certificate(_ script: Script, size: Int, by key: SigningKey = Small.launcher) -> [UInt8] {
        var tree = MerkleFrontier()
        for envelope in script.record.envelopes.prefix(size) { tree.append(MerkleFrontier.leaf(envelope.body)) }
        let claim = LogClaim(job: script.record.job, term: size > 1 ? 1 : 0, size: size, root: tree.root)
        return Array("atoll-certificate 1\n".utf8) + Certificate([Ack(claim, by: key)])!.encoded
    }

    @Test func `holds to its last byte as it is written`() throws {
        let script = try script()
        let log = file(script.record.envelopes)
        let verdict = verify(log, certificate: certificate(script, size: 7), job: script.record.job)
        #expect(verdict.fault == nil && verdict.end == log.count && verdict.record?.length == 7)
        #expect(verdict.terms.map(\.term) == [0, 1] && verdict.terms.map(\.entries) == [0..<1, 1..<7])
        #expect(verdict.breaks.isEmpty && verdict.certificate?.claim.size == 7)
        #expect(verdict.text.hasSuffix("holds      every byte"))
    }

    @Test func `says what a peer did, from its folder alone`() throws {
        let script = try script()
        let folder = NSTemporaryDirectory() + "workbook-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try FileManager.default.createDirectory(atPath: folder + "/log", withIntermediateDirectories: true)
        let parse: Record.Parser = { _ in Small.parameters() }
        #expect(try WorkBook.all(in: folder, parse: parse).isEmpty)
        try Data((Small.key(2).seed.hex + "\n").utf8).write(to: URL(fileURLWithPath: folder + "/key"))
        let log = folder + "/log/" + script.record.job.hex
        try Data(file(script.record.envelopes)).write(to: URL(fileURLWithPath: log))
        try Data(certificate(script, size: 7)).write(to: URL(fileURLWithPath: log + ".certificate"))
        let book = try #require(try WorkBook.all(in: folder, parse: parse).first)
        #expect(book.peer == Small.peer(2) && book.log == log && book.fault == nil && book.certified == 7)
        #expect(
            book.endings.map(\.round) == [0, 1, 2, 3]
                && book.endings.allSatisfy { $0.outcome == .counted && $0.rank == 1 })
        #expect(
            book.totals.counted == book.totals.ended && book.totals.counted > 0 && book.underWay > 0
                && book.ended == nil)
        // Of a log that is damaged what holds is shown, and that it does not hold is said; the doctor says it, too.
        var damaged = file(script.record.envelopes)
        damaged[damaged.count - 40] ^= 1
        try Data(damaged).write(to: URL(fileURLWithPath: log))
        let rest = try #require(try WorkBook.all(in: folder, parse: parse).first)
        #expect(rest.fault != nil && rest.endings.map(\.round) == [0, 1, 2])
        #expect(rest.unread?.entries == 1 && rest.unread?.isTorn == false && rest.name == book.name)
        // Of one of which nothing can be read that is said; the other job's is there as before.
        let second = folder + "/log/" + String(repeating: "ab", count: 32)
        for lost in [[], Array(Self.format.dropLast(3)), [UInt8](repeating: 7, count: 500)] {
            try Data(lost).write(to: URL(fileURLWithPath: second))
            let books = try WorkBook.all(in: folder, parse: parse)
            #expect(books.count == 2 && books.contains { $0.log == log && $0.endings.count == 3 })
            let blind = try #require(books.first { $0.log == second })
            #expect(blind.unread != nil && blind.name.isEmpty && blind.endings.isEmpty)
        }
        try FileManager.default.removeItem(atPath: second)
        try FileManager.default.createDirectory(atPath: second, withIntermediateDirectories: true)
        #expect(try WorkBook.all(in: folder, parse: parse).contains { $0.log == second && $0.unread != nil })
        let findings = Doctor(Doctor.Scene(folder: folder, parse: parse)).examine()
        #expect(findings.contains { $0.code == .logDamaged && $0.state == .fail && $0.found.contains(log) })
    }

    @Test func `shows what its electors are proven to have lied about, and no more`() throws {
        let script = try script()
        let log = file(script.record.envelopes)
        func lie(size: Int, by key: SigningKey) throws -> Contradiction {
            func ack(_ content: UInt8) -> Ack {
                Ack(LogClaim(job: script.record.job, term: 1, size: size, root: sha256([content])), by: key)
            }
            return try #require(Contradiction(ack(1), ack(2)))
        }
        let true_ = try lie(size: 5, by: Small.launcher)
        // Of a stranger; of more entries than are here.
        let lies = [true_, try lie(size: 5, by: Small.key(9)), try lie(size: 50, by: Small.launcher)]
        let verdict = LogVerifier.verify(log: log, lies: lies, parse: { _ in Small.parameters() })
        #expect(verdict.fault == nil && verdict.lies == [true_])
        #expect(
            verdict.text.contains(
                "LIE        \(Small.launcher.peerID.short) has signed two logs of term 1 and 5 entries"))
    }

    @Test func `names any byte that was changed, whatever it is of`() throws {
        let log = file(try script().record.envelopes)
        var places = Array(0..<200) + Array((log.count - 60)..<log.count)
        places += stride(from: 200, to: log.count, by: 37)
        for place in places {
            var bad = log
            bad[place] ^= UInt8(1 << (place % 8))
            let fault = try #require(verify(bad).fault)
            #expect(fault.offset == place && fault.isExact, "byte \(place): \(fault)")
        }
    }

    @Test func `says where it ends, if it ends within a record`() throws {
        let log = file(try script().record.envelopes)
        let whole = Set(
            (0...7).map { count in (try? file(Array(script().record.envelopes.prefix(count))).count) ?? 0 })
        for length in stride(from: 0, to: log.count, by: 11) where !whole.contains(length) {
            let verdict = verify(Array(log[..<length]))
            let fault = try #require(verdict.fault)
            #expect(fault.offset == length && fault.kind == (length < Self.format.count ? .format : .torn))
            #expect(verdict.end <= length)
        }
        #expect(verify(Self.format).fault?.kind == .torn)
    }

    @Test func `with an entry taken out, put in twice, moved or signed by another is refused there`() throws {
        let script = try script()
        let entries = script.record.envelopes
        func fault(_ envelopes: [PBEnvelope]) throws -> LogVerdict.Fault { try #require(verify(file(envelopes)).fault) }
        let start = { (count: Int) in file(Array(entries.prefix(count))).count + 12 }

        let gap = try fault(Array(entries[..<3]) + Array(entries[4...]))
        #expect(gap.kind == .refused && gap.entry == 3 && gap.offset == start(3))
        #expect(gap.why.contains("missing"))
        let twice = try fault(Array(entries[..<4]) + Array(entries[3...]))
        #expect(twice.entry == 4 && twice.why.contains("second time"))
        var signed = entries[3]
        signed.sign(by: Small.key(1))
        let stranger = try fault(Array(entries[..<3]) + [signed])
        #expect(stranger.entry == 3 && stranger.why.contains("no elector"))
        var body = entries[2]
        body.body.append(0)
        let unsigned = try fault([entries[0], entries[1], body])
        #expect(unsigned.entry == 2 && unsigned.offset == start(2))
        // Signed, and bytes beside it that nobody has signed: a field that is not known, or the sequence once more.
        for more in [[0xf8, 0x7f, 1], [0x20, 3]] as [[UInt8]] {
            var writer = ByteWriter()
            let bytes = entries[3].encoded + more
            writer.u32(UInt32(bytes.count))
            writer.raw(sha256(bytes).bytes.prefix(8))
            writer.raw(bytes)
            let padded = try #require(verify(file(Array(entries[..<3])) + writer.bytes).fault)
            #expect(padded.entry == 3 && padded.kind == .refused, "\(padded)")
        }
        // An envelope of another epoch than the entry's term.
        let entry = try entries[3].open(.logEntry, job: script.record.job, wall: nil, as: PBLogEntry.self).body
        let odd = PBEnvelope(
            entry, type: .logEntry, job: script.record.job, epoch: 9, sequence: 3, by: Small.launcher)
        #expect(try fault(Array(entries[..<3]) + [odd]).why.contains("epoch 9"))
        // Another job's entry, as well signed.
        let other = try Script(nonce: 7).record.envelopes[0]
        #expect(try fault([entries[0], other]).entry == 1)
        let named = try #require(verify(file(entries), job: sha256([1])).fault)
        #expect(named.entry == 0 && named.why.contains("named for job"))
    }

    @Test func `that breaks a rule of the fold is refused, though every signature is right`() throws {
        // A log without its plan, signed and chained anew: a seal of nothing.
        let script = try script()
        var previous = script.record.envelopes[1]
        var envelopes = Array(script.record.envelopes[..<2])
        for index in 3..<5 {
            var entry = try script.record.envelopes[index].open(
                .logEntry, job: script.record.job, wall: nil, as: PBLogEntry.self
            ).body
            entry.index = UInt64(index - 1)
            entry.previous = bytesOf(MerkleFrontier.leaf(previous.body))
            previous = PBEnvelope(
                entry, type: .logEntry, job: script.record.job, epoch: 1, sequence: UInt64(index - 1),
                by: Small.launcher)
            envelopes.append(previous)
        }
        let fault = try #require(verify(file(envelopes)).fault)
        #expect(fault.entry == 2 && fault.kind == .refused && fault.why.contains("seal"))
    }

    @Test func `is not what its certificate says, where entries are missing or others`() throws {
        let script = try script()
        let log = file(script.record.envelopes)
        let short = file(Array(script.record.envelopes.prefix(5)))
        func why(_ log: [UInt8], _ certificate: [UInt8]) throws -> String {
            let fault = try #require(verify(log, certificate: certificate).fault)
            #expect(fault.kind == .certificate)
            return fault.why
        }
        #expect(verify(log, certificate: certificate(script, size: 3)).fault == nil)
        #expect(try why(short, certificate(script, size: 7)).contains("missing"))
        #expect(try why(log, certificate(script, size: 7, by: Small.key(1))).contains("no elector"))
        #expect(try why(log, [1, 2, 3]).contains("begins otherwise"))
        var other = certificate(script, size: 7)
        other[other.count - 3] ^= 1
        #expect(try why(log, other).contains("signature"))
        var different = try Script()
        try different.join([1, 2])
        try different.plan(Small.plan([[2], [1]]))
        try different.seal([0, 1])
        #expect(try why(log, certificate(different, size: 4)).contains("other entries"))
    }

    @Test func `shows where a newer term begins and where rounds were given back`() throws {
        var script = try script()
        try script.rollBack(Small.plan([[1], [2]], epoch: 2, round: 2))
        var record = try Record.restoring(script.record.envelopes, parse: { _ in Small.parameters() }).record
        for term in [4, 4, 9] {
            _ = try record.propose(.members(MembersChange(round: record.state.round)), term: term, by: Small.launcher)
        }
        let verdict = verify(file(record.envelopes))
        #expect(verdict.fault == nil && verdict.terms.map(\.term) == [0, 1, 4, 9])
        #expect(verdict.breaks.map(\.entry) == [7, 8, 10])
        #expect(verdict.breaks[0].what == "back to round 2: test")
    }
}
