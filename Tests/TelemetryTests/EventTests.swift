import Foundation
import Primitives
import Telemetry
import Testing

/// What an event is called, what it carries and how it is written come from its declaration.
struct EventTests {
    static let project = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    @Test func `every case that is declared has a name`() throws {
        let source = try String(
            contentsOf: Self.project.appendingPathComponent("Sources/Cores/Telemetry/Happening.swift"), encoding: .utf8)
        let declaration = try #require(source.components(separatedBy: "public enum Name").first)
        let cases = declaration.split(separator: "\n").filter { $0.hasPrefix("    case ") }.map {
            String($0.dropFirst(9).prefix { $0.isLetter })
        }
        #expect(cases.count > 80)
        #expect(cases == Happening.Name.allCases.map(\.rawValue))
    }

    @Test func `there is a sample of every case, and each is read back from its kind and fields`() {
        #expect(Happening.samples.map(\.name) == Happening.Name.allCases)
        for sample in Happening.samples {
            let fields = sample.fields
            let read = Happening(kind: sample.kind) { name in fields.first { $0.name == name }?.value }
            #expect(read == sample)
        }
    }

    @Test func `what lacks a field or has it of another type is not read, and an optional one may be absent`() {
        for name in Happening.Name.allCases where name != .contributionUnusable {
            let fields = name.sample.fields
            for (field, request) in zip(fields, name.declaration.requests) {
                #expect(field.name == request.field)
                let without = Happening(kind: name.kind) { asked in
                    asked == field.name ? nil : fields.first { $0.name == asked }?.value
                }
                #expect((without != nil) == request.isOptional, "\(name) without \(field.name)")
                let other: Event.Value = request.kind == .integer || request.kind == .real ? .text("3") : .integer(3)
                let changed = Happening(kind: name.kind) { asked in
                    asked == field.name ? other : fields.first { $0.name == asked }?.value
                }
                #expect(changed == without, "\(name) with another \(field.name)")
            }
        }
        #expect(Happening(kind: "nothing_known") { _ in nil } == nil)
        #expect(Happening(kind: "planning") { $0 == "why" ? .text("x") : .real(1.5) } == nil)
        #expect(Happening(kind: "planning") { $0 == "why" ? .text("x") : .real(2) } == .planning(why: "x", peers: 2))
    }

    @Test(arguments: [
        (Event(.overlayIsolated, at: .zero), "0.000000000 overlay_isolated"),
        (
            Event(.reachability(reached: 2, asked: 3, reachable: true), at: Instant(seconds: 1.5)),
            "1.500000000 reachability reached=2 asked=3 reachable=yes"
        ),
        (
            Event(.peerFound(device: "4 of 8 cores", gflops: 12.25, memoryMib: 512), at: .zero, peer: "ada"),
            "0.000000000 peer_found ada device=4 of 8 cores gflops=12.250000 memory_mib=512.000000"
        ),
        (
            Event(.measuringLinks(peers: 4), at: .zero),
            "0.000000000 measuring_links peers=4"
        ),
        (
            Event(.linksMeasured(peers: 4, upMbps: "9.5-50", downMbps: "100-100"), at: .zero),
            "0.000000000 links_measured peers=4 up_mbps=9.5-50 down_mbps=100-100"
        ),
        (
            Event(
                .roundSealed(
                    round: 3, steps: 16, tokens: 2048, trainLoss: 5.25, pipelines: 2, seconds: 1.5,
                    predictedSeconds: 1.25),
                at: .zero),
            "0.000000000 round_sealed round=3 steps=16 tokens=2048 train_loss=5.250000 pipelines=2 seconds=1.500000 predicted_seconds=1.250000"
        ),
        (
            Event(.contributionUnusable(rank: 1, why: "short"), at: .zero),
            "0.000000000 contribution_refused rank=1 why=short"
        ),
        (
            Event(.contributionRefused(by: "bea", round: 7, why: "short"), at: .zero, peer: "ada"),
            "0.000000000 contribution_refused ada by=bea round=7 why=short"
        ),
        (Event(.workRefused(why: "NaN"), at: .zero), "0.000000000 work_refused why=NaN"),
        (Event(.fault(kind: "kill"), at: .zero), "0.000000000 fault kind=kill"),
    ])
    func `a transcript's line has seconds, kind, peer and fields in order`(event: Event, line: String) {
        #expect(event.line == line)
    }

    @Test func `no line of a transcript can be made to look like two, or to run backwards`() {
        let name = "a\nb\u{1B}[2J\u{202E}\u{7F}é"
        let event = Event(.peerLost(why: name), at: .zero, peer: name)
        let shown = "a\\u{a}b\\u{1b}[2J\\u{202e}\\u{7f}é"
        #expect(event.line == "0.000000000 peer_lost \(shown) why=\(shown) said_goodbye=no")
        #expect(escaped("Ada's \"peer\" = 1; ok") == "Ada's \"peer\" = 1; ok")
    }

    @Test func `no two cases have one kind, but for the two that are one thing`() {
        let kinds = Dictionary(grouping: Happening.Name.allCases, by: \.kind).filter { $0.value.count > 1 }
        #expect(kinds == ["contribution_refused": [.contributionUnusable, .contributionRefused]])
        #expect(Happening.samples.allSatisfy { Set($0.fields.map(\.name)).count == $0.fields.count })
    }

    @Test func `each kind has one level, whichever its case, and the page says it`() {
        for (kind, names) in Dictionary(grouping: Happening.Name.allCases, by: \.kind) {
            #expect(Set(names.map(\.level)).count == 1, "\(kind)")
            #expect(EventReference.markdown.contains("| `\(kind)` | \(names[0].level.word) |"), "\(kind)")
        }
        for level in LogLevel.allCases {
            #expect(Happening.Name.allCases.contains { $0.level == level } && LogLevel(level.word) == level)
        }
        #expect(LogLevel.allCases == LogLevel.allCases.sorted() && LogLevel("Error") == nil && LogLevel("") == nil)
        #expect(LogLevel.allCases.map(\.priority) == [3, 4, 6, 7])
        // What a report tells of a job is not hidden from who reads a log.
        for sample in Happening.samples where sample.isStory {
            #expect(sample.name.level < .debug || sample.name == .fault, "\(sample.kind)")
        }
    }

    @Test func `the reference describes every case once, in order, and no field that there is not`() {
        let names = EventReference.entries.map(\.name)
        #expect(Set(names) == Set(Happening.Name.allCases) && names.count == Happening.Name.allCases.count)
        for entry in EventReference.entries {
            let fields = Set(entry.name.declaration.requests.map(\.field))
            for note in entry.notes { #expect(fields.contains(note.key), "\(entry.name): \(note.key)") }
        }
        // A page's section is an entry's list.
        let lists = [
            EventReference.overlay, EventReference.record, EventReference.peer, EventReference.member,
            EventReference.gathering, EventReference.rounds, EventReference.states, EventReference.recovery,
            EventReference.drivers,
        ]
        for (section, list) in zip(EventReference.Section.allCases, lists) {
            #expect(list.allSatisfy { $0.name.sample.section == section })
        }
    }

    @Test func `docs EVENTS is what the types say`() throws {
        let page = try String(contentsOf: Self.project.appendingPathComponent("docs/EVENTS.md"), encoding: .utf8)
        let written = EventReference.markdown
        let differing = zip(page.split(separator: "\n"), written.split(separator: "\n")).first { $0 != $1 }
        #expect(
            page == written, "run `make events`; the first line that differs: \(differing.map { "\($0)" } ?? "the end")"
        )
    }

    @Test func `docs REPORT lists the kinds that a report tells`() throws {
        let page = try String(contentsOf: Self.project.appendingPathComponent("docs/REPORT.md"), encoding: .utf8)
        let chapter = try #require(
            page.components(separatedBy: "## What happened").last?.components(separatedBy: "## ").first)
        let list = try #require(chapter.components(separatedBy: "\n\n").last { $0.hasPrefix("`") })
        let kinds = list.split(separator: "`").map(String.init).filter { $0.contains { $0.isLetter } }
        #expect(Set(kinds) == Set(Happening.samples.filter(\.isStory).map(\.kind)))
    }
}
