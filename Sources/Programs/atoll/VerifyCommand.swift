import ArgumentParser
import Consensus
import Coordination
import Foundation
import JSON
import Node
import Primitives
import Record

/// `atoll verify LOG`: whether a job's log is what its electors wrote.
struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Check a job's log file, alone: every byte, signature, hash and rule.",
        discussion: """
            The log of a launcher or a peer is DATA/log/JOB, its certificate the file beside it. Nothing else is asked. The first byte that \
            does not hold is named. Exit codes: 0 all of it holds, 1 something does not, 2 there is no such file.
            """)

    @Argument(help: "The file.") var log: String
    @Option(help: "The certificate, if it does not lie beside the log.") var certificate: String?
    @Flag(help: "Print one JSON object (docs/VERIFY.md).") var json = false

    func run() throws {
        Interrupt.watch()
        let bytes = try readFile(log)
        let beside = log + ".certificate"
        let proof: [UInt8]? =
            if let certificate {
                try readFile(certificate)
            } else if FileManager.default.fileExists(atPath: beside) {
                try readFile(beside)
            } else {
                nil
            }
        let name = URL(fileURLWithPath: log).lastPathComponent
        var said = Date()
        let verdict = try LogVerifier.verify(
            log: bytes, certificate: proof, lies: LogFile.lies(beside: log),
            job: name.count == 64 ? Digest256(hex: name) : nil,
            parse: JobParameters.init(manifest:)
        ) { read in
            guard !json, Date().timeIntervalSince(said) > 2 else { return }
            said = Date()
            complain("\(100 * read / max(1, bytes.count)) % of the log holds so far")
        }
        print(json ? verdict.object.written() : verdict.text)
        if verdict.fault != nil { throw ExitCode(1) }
    }
}

extension LogVerdict {
    /// Documented in `docs/VERIFY.md`.
    var object: JSONValue {
        var out = JSONObject()
        let head: [(String, JSONValue)] = [
            ("holds", .bool(fault == nil)), ("bytes", JSONValue(bytes)), ("bytes_that_hold", JSONValue(end)),
            ("entries", JSONValue(record?.length ?? 0)),
            (
                "terms",
                .array(
                    terms.map { term in
                        [
                            "term": JSONValue(term.term), "leader": .string(term.leader.hex),
                            "first_entry": JSONValue(term.entries.lowerBound),
                            "last_entry": JSONValue(term.entries.upperBound - 1),
                        ]
                    })
            ),
            (
                "lies",
                .array(
                    lies.map {
                        [
                            "entries": JSONValue($0.size), "term": JSONValue($0.claims.1.term),
                            "convicted": .array($0.liars.map { .string($0.hex) }), "what": .string($0.what),
                        ]
                    })
            ),
            ("breaks", .array(breaks.map { ["entry": JSONValue($0.entry), "what": .string($0.what)] })),
        ]
        for (key, value) in head { out[key] = value }
        if let record {
            let (state, totals) = (record.state, record.ledger.totals)
            out["job"] = .string(record.job.hex)
            out["name"] = .string(record.parameters.name)
            out["electors"] = .array(record.electors.map { .string($0.hex) })
            out["round"] = JSONValue(state.round)
            out["tokens"] = JSONValue(state.sealedTokens)
            out["ended"] = state.finished.map { .string($0.reason) } ?? .null
            out["micro_batches"] = [
                "granted": JSONValue(totals.granted), "counted": JSONValue(totals.counted),
                "late": JSONValue(totals.late), "lost": JSONValue(totals.lost),
                "superseded": JSONValue(totals.superseded), "under_way": JSONValue(record.ledger.underWay),
            ]
        }
        if let claim = certificate?.claim {
            out["certificate"] = [
                "entries": JSONValue(claim.size), "term": JSONValue(claim.term), "era": JSONValue(claim.era),
                "root": .string(claim.root.hex),
                "signers": .array(certificate!.signatures.map { .string($0.signer.hex) }),
            ]
        }
        if let fault {
            out["fault"] = [
                "kind": .string(fault.kind.rawValue), "byte": JSONValue(fault.offset), "exact": .bool(fault.isExact),
                "entry": fault.entry.map { JSONValue($0) } ?? .null,
                "record_begins": fault.record.map { JSONValue($0.lowerBound) } ?? .null,
                "record_ends": fault.record.map { JSONValue($0.upperBound) } ?? .null, "why": .string(fault.why),
            ]
        }
        return .object(out)
    }
}
