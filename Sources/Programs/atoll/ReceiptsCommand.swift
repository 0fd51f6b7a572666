import ArgumentParser
import Coordination
import Digests
import Foundation
import JSON
import Node
import Primitives
import Record
import Telemetry

/// `atoll receipts`: what the peers of this machine did for jobs, and what of it counts.
struct ReceiptsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "receipts",
        abstract: "What peers of this machine did for jobs, what of it counts, and why the rest does not.",
        discussion: """
            Read from the jobs' logs in the peers' folders, which stay when a peer leaves: no daemon needs to run. Every line follows from a log that \
            `atoll verify` checks, alone.
            """)
    @Option(
        help:
            "A peer's folder, instead of all in this user's own; may be repeated: several machines of one owner add up."
    )
    var data: [String] = []
    @Flag(help: "Rounds that count, too.") var all = false
    @Flag(help: "One line of JSON for each job (docs/STATUS.md).") var json = false

    func run() throws {
        var sum = WorkBook.Totals()
        var (books, jobs, peers) = (0, Set<Digest256>(), Set<PeerID>())
        for folder in folders {
            for book in try WorkBook.all(in: folder, parse: JobParameters.init(manifest:))
            where !book.endings.isEmpty || book.underWay > 0 || book.unread != nil {
                books += 1
                jobs.insert(book.job)
                peers.insert(book.peer)
                sum.add(book.totals)
                if json { print(book.object.written()) } else { tell(book) }
            }
        }
        guard !json else { return }
        if books == 0 { print("Peers here have done nothing for a job yet.") }
        if books > 1 {
            let by = peers.count == 1 ? "one peer" : "\(peers.count) peers"
            print("In all, \(Self.words(sum)), by \(by) in \(jobs.count == 1 ? "one job" : "\(jobs.count) jobs").")
        }
    }
    private var folders: [String] {
        if !data.isEmpty { return data }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: Home.path)) ?? []
        return names.sorted().map { Home.path + "/" + $0 }
    }
    private func tell(_ book: WorkBook) {
        if book.name.isEmpty, let unread = book.unread {
            return print(
                escaped(
                    "Peer \(book.peer.short) in job \(book.job.short): its log cannot be read, so what it did there is not known. \(book.log), "
                        + "byte \(unread.byte): \(unread.why)\(Self.count(unread))."))
        }
        print(
            escaped(
                "Peer \(book.peer.short) in job \(book.job.short) “\(book.name)”, which \(book.ended.map { "has ended: \($0)" } ?? "goes on as far as is known here"):"
            ))
        print(
            "  \(Self.words(book.totals))"
                + (book.underWay > 0
                    ? "; \(grouped(book.underWay)) \(book.underWay == 1 ? "is" : "are") under way" : "")
                + ".")
        let shown = book.endings.filter { all || $0.outcome != .counted }
        for ending in shown.suffix(all ? .max : 20) {
            let units = Event.words(units: ending.units)
            print(
                "  round \(ending.round): \(counted(ending.microBatches, "micro-batch", "micro-batches")) of \(units), \(ending.outcome.rawValue): \(ending.why)"
            )
        }
        if shown.count > 20, !all { print("  … and \(shown.count - 20) before them (--all)") }
        if let unread = book.unread {
            print(
                escaped(
                    "  The log holds up to byte \(unread.byte) only: \(unread.why)\(Self.count(unread)). What comes behind it is missing here."
                ))
        } else if let fault = book.fault, fault.kind == .certificate {
            print(escaped("  \(fault.why)"))
        }
        print("  Checked by: atoll verify \(book.log)")
    }
    private static func count(_ unread: WorkBook.Unread) -> String {
        switch unread.entries {
        case 0: ""
        case 1: "; one entry is not read"
        default: "; \(grouped(unread.entries)) entries are not read"
        }
    }
    private func counted(_ count: Int, _ one: String, _ many: String) -> String {
        "\(grouped(count)) \(count == 1 ? one : many)"
    }
    private static func words(_ totals: WorkBook.Totals) -> String {
        func part(_ count: Int, _ one: String, _ many: String) -> String {
            "\(grouped(count)) \(count == 1 ? one : many)"
        }
        var line = part(totals.ended, "micro-batch", "micro-batches") + ": " + part(totals.counted, "counts", "count")
        if totals.late > 0 { line += ", " + part(totals.late, "was late", "were late") }
        if totals.lost > 0 { line += ", " + part(totals.lost, "was lost", "were lost") }
        if totals.superseded > 0 { line += ", " + part(totals.superseded, "was superseded", "were superseded") }
        return line
    }
}

extension WorkBook {
    /// Documented in docs/STATUS.md.
    var object: JSONValue {
        var out = JSONObject()
        out["peer"] = .string(peer.hex)
        out["job"] = .string(job.hex)
        out["name"] = .string(name)
        out["log"] = .string(log)
        out["ended"] = ended.map { .string($0) } ?? .null
        out["certified_entries"] = certified.map { JSONValue($0) } ?? .null
        out["holds"] = .bool(fault == nil)
        out["unread"] =
            unread.map {
                ["byte": JSONValue($0.byte), "entries": JSONValue($0.entries), "why": .string($0.why)]
            } ?? .null
        out["micro_batches"] = [
            "counted": JSONValue(totals.counted), "late": JSONValue(totals.late), "lost": JSONValue(totals.lost),
            "superseded": JSONValue(totals.superseded), "under_way": JSONValue(underWay),
        ]
        out["rounds"] = .array(
            endings.map { ending in
                [
                    "round": JSONValue(ending.round), "pipeline": JSONValue(ending.rank),
                    "stage": JSONValue(ending.stage),
                    "first_unit": JSONValue(ending.units.lowerBound), "end_unit": JSONValue(ending.units.upperBound),
                    "micro_batches": JSONValue(ending.microBatches), "outcome": .string(ending.outcome.rawValue),
                    "why": .string(ending.why),
                ]
            })
        return .object(out)
    }
}
