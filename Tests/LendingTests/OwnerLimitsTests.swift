import Lending
import Primitives
import Telemetry
import Testing
import Topologies

@Suite struct `The limits of an owner` {
    @Test(arguments: LimitKey.allCases) func `every limit says what it takes, and takes what it says`(key: LimitKey)
        throws
    {
        var limits = OwnerLimits()
        let usual = limits.text(key)
        try limits.set(key, to: usual)
        #expect(limits == OwnerLimits(), "the default, given, is the default")
        for bad in [
            "", " ", "-1", "nan", "inf", "1e3", "0x10", "1_000", "99999999999999999999", "\u{1B}[2J", "5;5", "maybe",
        ] {
            #expect(throws: LimitProblem.self) { try limits.set(key, to: bad) }
        }
        #expect(limits == OwnerLimits(), "what is refused changes nothing")
        #expect(!key.allowed.isEmpty && !key.meaning.isEmpty)
    }
    @Test func `values are read as they are written`() throws {
        let values: [LimitKey: String] = [
            .threads: "3", .cpuPercent: "12.5", .priority: "normal", .memory: "512", .disk: "100000", .upload: "0.5",
            .download: "20", .monthly: "100", .hours: "mon-fri 19:00-23:00, sat, 10:00-24:00", .onBattery: "work",
            .userActive: "pause", .userIdleAfter: "60", .othersLoad: "40", .temperature: "75", .metered: "work",
            .unseen: "pause", .handOverAfter: "30", .resumeAfter: "2.5",
        ]
        #expect(Set(values.keys) == Set(LimitKey.allCases))
        var limits = OwnerLimits()
        for (key, text) in values { try limits.set(key, to: text) }
        for (key, text) in values { #expect(limits.text(key) == text) }
        #expect(limits.upload == .megabits(0.5) && limits.cpuShare == 0.125 && limits.monthly == .mebibytes(102_400))
    }

    @Test func `hours of a week`() throws {
        let hours = try #require(OpenHours("mon-fri 19:00-23:00, sat, sun 22:00-06:00"))
        func open(_ day: Int, _ hour: Int, _ minute: Int = 0) -> Bool {
            hours.isOpen(LocalMoment(weekday: day, minute: hour * 60 + minute, month: 0))
        }
        #expect(!open(0, 18, 59) && open(0, 19) && open(4, 22, 59) && !open(4, 23))
        #expect(open(5, 0) && open(5, 23, 59) && !open(6, 21) && open(6, 22) && open(0, 5, 59) && !open(0, 6))
        #expect(hours.nextOpening(after: LocalMoment(weekday: 0, minute: 1400, month: 0)) == "tue 19:00")
        #expect(hours.nextOpening(after: LocalMoment(weekday: 4, minute: 1400, month: 0)) == "sat 00:00")
        #expect(hours.nextOpening(after: LocalMoment(weekday: 5, minute: 1, month: 0)) == nil)
        for bad in [
            "mon 10:00-10:00", "fri-mon", "24:00-06:00", "10:00", "8-9", "mon tue", "mon,,tue", "1:60-2:00", "funday",
        ] {
            #expect(OpenHours(bad) == nil, "\(bad)")
        }
    }

    @Test func `the layer that comes last wins, and each value says where it comes from`() throws {
        var layers = try LimitLayers([
            .init(name: "peer.yaml", values: [.threads: "2", .upload: "1"]),
            .init(name: LimitLayers.byCommand, values: [.upload: "3"]),
            .init(name: "the command line", values: [.threads: "4"]),
        ])
        #expect(layers.limits.threads == 4 && layers.limits.upload == .megabits(3))
        #expect(layers.source(of: .threads) == "the command line" && layers.source(of: .hours) == nil)
        #expect(try layers.set(.threads, to: "1") == "the command line" && layers.limits.threads == 4)
        #expect(try layers.set(.upload, to: "default") == nil && layers.limits.upload == .megabits(1))
        #expect(throws: LimitProblem.self) { try layers.set(.upload, to: "much") }
        // What commands gave is kept in a file that reads back.
        _ = try layers.set(.hours, to: "mon-fri 19:00-23:00, sat")
        let file = try PeerFile(parsing: Array(layers.commandFile.utf8), file: "limits.yaml")
        #expect(file.limits == [.threads: "1", .hours: "mon-fri 19:00-23:00, sat"])
        let none = try LimitLayers([.init(name: LimitLayers.byCommand, values: [:])])
        #expect(try PeerFile(parsing: Array(none.commandFile.utf8), file: "limits.yaml").limits.isEmpty)
    }

    @Test func `a peer's file is read strictly, and names the line`() throws {
        let key = String(repeating: "ab", count: 32)
        let file = try PeerFile(
            parsing: Array(
                "name: den\naccept:\n  - \(key)\nlimits:\n  up_mbps: 5\n  hours: mon-fri 19:00-23:00\n".utf8),
            file: "peer.yaml")
        #expect(file.name == "den" && file.accept.map(\.hex) == [key])
        #expect(file.limits == [.upload: "5", .hours: "mon-fri 19:00-23:00"])
        #expect(file.mapsPorts)
        #expect(try PeerFile(parsing: Array("name: Zoë’s laptop\n".utf8), file: "peer.yaml").name == "Zoë’s laptop")
        #expect(try !PeerFile(parsing: Array("port_mapping: false\n".utf8), file: "peer.yaml").mapsPorts)
        #expect(file.log == nil)
        #expect(try PeerFile(parsing: Array("log: warning\n".utf8), file: "peer.yaml").log == .warning)
        for (text, words) in [
            ("name: \(String(repeating: "n", count: 41))\n", ["peer.yaml:1", "40 bytes"]),
            ("name: \"a\\tb\"\n", ["peer.yaml:1", "control"]),
            ("log: loud\n", ["peer.yaml:1", "error, warning, info, debug"]),
            ("limits:\n  up_mbs: 5\n", ["peer.yaml:2", "up_mbps?"]),
            ("limits:\n  threads: 4\n  up_mbps: -3\n", ["peer.yaml:3", "up_mbps"]),
            ("accept: [abc]\n", ["peer.yaml:1", "64 hexadecimal"]), ("limits: 7\n", ["peer.yaml:1"]),
            ("size: 1\n", ["size"]), ("port_mapping: maybe\n", ["peer.yaml:1", "true"]),
            ("limits:\n  threads: 1\n  threads: 2\n", ["twice"]), ("limits:\n  hours: [mon]\n", ["hours"]),
            ("\u{0}", ["peer.yaml"]),
        ] {
            do {
                _ = try PeerFile(parsing: Array(text.utf8), file: "peer.yaml")
                Issue.record("taken: \(text)")
            } catch { for word in words { #expect(error.description.contains(word), "\(error)") } }
        }
    }
}
