import Coordination
import Daemon
import Digests
import EventLoop
import Foundation
import Lending
import Node
import Pools
import Primitives
import Record
import Testing

@Suite struct `The doctor` {
    /// A healthy machine in a folder of its own, which a test makes ill.
    final class Patient {
        let root: String
        var scene: Doctor.Scene
        var folder: String { scene.folder }

        init() throws {
            root = NSTemporaryDirectory() + "doctor-\(UUID().uuidString)"
            let folder = root + "/peer"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            scene = Doctor.Scene(folder: folder, parse: JobParameters.init(manifest:))
            try write("peer/key", String(repeating: "ab", count: 32) + "\n")
            try write("peer/format", "atoll-data 1\n")
            try write("machine/proc/meminfo", "MemTotal: 8192000 kB\n")
            try write("machine/sys/class/power_supply/AC/type", "Mains\n")
            try write("machine/sys/class/power_supply/AC/online", "1\n")
            try invite("bootstrap: [\"192.0.2.7:6881\"]\naccept: [\"\(String(repeating: "cd", count: 32))\"]\n")
            scene.invite = root + "/invite.yaml"
            scene.machine.sensors = root + "/machine"
            scene.machine.wall = 1_795_000_000
            scene.machine.isClockKept = true
            scene.machine.processors = 4
            scene.machine.descriptors = 4096
            scene.machine.addresses = [Endpoint(ipv4: 192, 0, 2, 1, port: 0)]
            scene.machine.diskSeconds = 0.002
            scene.machine.hasWayOutIPv6 = true
            scene.machine.segmentBytes = { _ in 1448 }
            scene.machine.freeBytes = { _ in 50 << 30 }
            scene.machine.answers = { _ in true }
            var limits = OwnerLimits()
            // Nothing of this machine says so.
            try limits.set(.metered, to: "work")
            scene.limits = .success(limits)
        }
        deinit { try? FileManager.default.removeItem(atPath: root) }

        func write(_ name: String, _ text: String, mode: Int = 0o600) throws {
            let path = root + "/" + name
            try FileManager.default.createDirectory(
                atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
            try Data(text.utf8).write(to: URL(fileURLWithPath: path))
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
        }
        func invite(_ rest: String, mode: Int = 0o600) throws {
            try write("invite.yaml", "name: reef\npool: \"\(String(repeating: "0f", count: 32))\"\n" + rest, mode: mode)
        }
        static let authority = SigningKey(seed: [UInt8](repeating: 5, count: 32))!
        private static let issuing = SigningKey(seed: [UInt8](repeating: 6, count: 32))!
        /// Of a pool that keeps members: an invite that ends `left` seconds from now.
        private func warrant(_ left: Int64, life: Int64 = 86_400) -> Warrant {
            let end = scene.machine.wall + left
            return Warrant(
                by: Self.authority, issuer: Self.issuing.peerID, role: .member, uses: 1, issued: end - 700 * 86_400,
                expires: end, life: life)
        }
        func memberInvite(_ left: Int64) throws {
            let invite = Invite(
                name: "reef", Invite.Issuing(warrant(left), Self.issuing), bootstrap: [Endpoint("192.0.2.7:6881")!],
                accept: [Self.authority.peerID])
            try write("invite.yaml", invite.text)
        }
        /// What the folder keeps of such a pool: a certificate of a day that ended so long ago.
        func membership(endedSecondsAgo: Int64, isRemoved: Bool = false) throws {
            let key = SigningKey(seed: [UInt8](repeating: 0xAB, count: 32))!
            let joined = scene.machine.wall - endedSecondsAgo - 86_400
            var book = PoolBook(
                credential: Credential(joining: key.peerID, by: warrant(86_400), Self.issuing, at: joined),
                key: PoolKey(
                    serial: 1, key: [UInt8](repeating: 9, count: 32), from: 0, formerUntil: 0, by: Self.authority),
                wall: WallClock(seconds: scene.machine.wall, at: .zero))
            if isRemoved {
                let subject = Digest256(key.peerID.bytes)!
                let removal = Revocation(.peer, of: subject, at: joined, by: Self.authority)
                #expect(book.heed(.revocation(removal), from: key.peerID, at: .zero) == .taken)
            }
            try Data(book.encoded).write(to: URL(fileURLWithPath: folder + "/pool"))
        }
        func give(_ values: [LimitKey: String]) throws {
            var limits = try scene.limits.get()
            for (key, value) in values { try limits.set(key, to: value) }
            scene.limits = .success(limits)
        }
        /// What a daemon says of itself, by its JSON.
        func daemon(_ change: (inout [String: Any]) -> Void = { _ in }) throws {
            var member: [String: Any] = [
                "name": "den", "memory_mebibytes": 1024.0, "state": "working", "doing": "inner step 1 of 8",
                "accepts": ["cdcdcdcd"],
            ]
            var overlay: [String: Any] = ["is_joined": true, "contacts": 3, "is_reachable": true, "berths": [String]()]
            var connections: [[String: Any]] = [["peer": "77aa10ff", "endpoint": "192.0.2.9:7071"]]
            var limits: [String: Any] = [
                "mode": "work", "reasons": [[String: Any]](), "unseen": [[String: Any]](), "values": [[String: Any]](),
                "cpu_percent": 100.0,
                "is_lowest_priority": true, "month": 202_611, "month_sent_bytes": 0, "month_received_bytes": 0,
            ]
            var all: [String: Any] = [
                "member": member, "overlay": overlay, "connections": connections, "limits": limits,
            ]
            change(&all)
            member = all["member"] as? [String: Any] ?? member
            overlay = all["overlay"] as? [String: Any] ?? overlay
            connections = all["connections"] as? [[String: Any]] ?? connections
            limits = all["limits"] as? [String: Any] ?? limits
            let object: [String: Any] = [
                "uptime_seconds": 5.0, "process": 7, "listening": "192.0.2.1:7070", "sent_bytes": 1,
                "received_bytes": 1, "limits": limits,
                "daemon": [
                    "id": String(repeating: "ee", count: 32), "overlay": overlay, "connections": connections,
                    "member": member,
                ],
            ]
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            let status = try decoder.decode(
                ControlService.Status.self, from: JSONSerialization.data(withJSONObject: object))
            scene.daemons = [(folder: root + "/den", status: status)]
        }
        var findings: [Diagnosis] { Doctor(scene).examine() }
    }

    @Test func `finds nothing wrong with a machine that is well`() throws {
        let patient = try Patient()
        let alone = patient.findings
        #expect(alone.filter { $0.state == .warn || $0.state == .fail } == [])
        #expect(Doctor.isHealthy(alone))
        try patient.daemon()
        let running = patient.findings
        #expect(running.filter { $0.state != .ok } == [])
        // Nothing secret is shown, and nothing of the folder has changed.
        for one in running + alone {
            #expect(
                !one.found.contains("abab") && !(one.remedy ?? "").contains("0f0f0f") && !one.found.contains("0f0f0f"))
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: patient.folder).sorted() == ["format", "key"])
    }

    @Test func `sees that a node has said that it was removed, and what it says is to be understood alone`() throws {
        let patient = try Patient()
        try patient.membership(endedSecondsAgo: -3600)
        #expect(patient.findings.first { $0.code == .removedFromPool }?.state == .ok)
        try patient.write("peer/removed", "\(patient.scene.machine.wall - 7200)\n")
        let said = try #require(patient.findings.first { $0.code == .removedFromPool })
        #expect(said.state == .fail && said.found.contains("2 hours ago"), "\(said)")
        try FileManager.default.removeItem(atPath: patient.folder + "/removed")
        patient.scene.removed = [patient.folder]
        #expect(patient.findings.first { $0.code == .removedFromPool }?.state == .fail)

        try patient.give([.memory: "100000000"])
        let memory = try #require(patient.findings.first { $0.code == .memoryBeyond })
        #expect(memory.found.contains("are to be offered to jobs, and this machine has"), "\(memory)")
        let why = "it wins over peer.yaml, and is understood without a daemon"
        #expect(memory.remedy?.hasPrefix("atoll limits set memory_mib ") == true, "\(why): \(memory)")
        patient.scene.invite = nil
        #expect(patient.findings.first { $0.code == .inviteMissing }?.state == .unknown)
        try patient.daemon()
        #expect(patient.findings.first { $0.code == .inviteMissing }?.state == .ok)
        #expect(patient.findings.first { $0.code == .memoryBeyond }?.remedy?.hasPrefix("atoll limits set") == true)
    }

    /// Each fault, how it is put in place, and what it has to be called.
    private typealias Fault = (code: DiagnosisCode, state: Diagnosis.State, put: (Patient) throws -> Void)
    private static func set(_ name: String, _ key: String, _ value: Any) -> (inout [String: Any]) -> Void {
        { all in
            var part = all[name] as? [String: Any] ?? [:]
            part[key] = value
            all[name] = part
        }
    }
    private static func batches(_ counted: Int, _ late: Int) -> [String: Any] {
        [
            "parameters": 1000, "tokens": 1, "tokens_total": 10,
            "micro_batches": [
                "counted": counted, "late": late, "lost": 0, "superseded": 0, "under_way": 0, "rounds": 1,
            ],
        ]
    }
    private static var faults: [Fault] {
        ownFaults + poolFaults + memberFaults + lineFaults + machineFaults + limitFaults
    }
    private static var ownFaults: [Fault] {
        [
            (.keyMode, .fail, { try $0.write("peer/key", String(repeating: "ab", count: 32), mode: 0o644) }),
            (
                .folderInUse, .fail,
                { patient in
                    let lock = open(patient.folder + "/lock", O_RDWR | O_CREAT, 0o600)
                    flock(lock, LOCK_EX)
                }
            ),
            (.clock, .fail, { $0.scene.machine.wall = 12 }), (.clock, .warn, { $0.scene.machine.isClockKept = false }),
            (.clock, .unknown, { $0.scene.machine.isClockKept = nil }),
            (
                .sameKeyTwice, .fail,
                {
                    try $0.write("copy/key", String(repeating: "ab", count: 32) + "\n")
                    $0.scene.beside = [$0.root + "/copy"]
                }
            ),
            (.keyUnreadable, .fail, { try $0.write("peer/key", "not a key") }),
            (.folderFormat, .fail, { try $0.write("peer/format", "atoll-data 99\n") }),
            (.inviteMissing, .fail, { $0.scene.invite = $0.root + "/none" }),
            (.inviteMissing, .unknown, { $0.scene.invite = nil }),
            (.inviteMalformed, .fail, { try $0.write("invite.yaml", "pool: short\n") }),
            (.inviteWithoutBootstrap, .fail, { try $0.invite("bootstrap: []\naccept: []\n") }),
            (.inviteWithoutLaunchers, .warn, { try $0.invite("bootstrap: [\"192.0.2.7:6881\"]\naccept: []\n") }),
            (.inviteReadable, .warn, { try $0.invite("bootstrap: [\"192.0.2.7:6881\"]\naccept: []\n", mode: 0o644) }),
            (
                .portTaken, .fail,
                { patient in
                    let taken = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
                    var (address, size) = (sockaddr_in(), socklen_t(MemoryLayout<sockaddr_in>.size))
                    address.sin_family = sa_family_t(AF_INET)
                    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
                    withUnsafeMutablePointer(to: &address) {
                        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                            _ = bind(taken, $0, size)
                            _ = listen(taken, 1)
                            getsockname(taken, $0, &size)
                        }
                    }
                    patient.scene.listen = Endpoint(ipv4: 127, 0, 0, 1, port: UInt16(bigEndian: address.sin_port))
                }
            ),
            (.nobodyAnswers, .fail, { $0.scene.machine.answers = { _ in false } }),
        ]
    }
    private static var poolFaults: [Fault] {
        [
            (.unreachable, .warn, { try $0.daemon(set("overlay", "is_reachable", false)) }),
            (.unreachable, .unknown, { _ in }),
            (
                .relayed, .warn,
                { try $0.daemon { $0["connections"] = [["peer": "77aa10ff", "endpoint": "", "relayed_by": "88bb"]] } }
            ),
            (.noAddress, .warn, { $0.scene.machine.addresses = [] }),
            (.noAddress, .unknown, { $0.scene.machine.addresses = nil }),
            (.fewDescriptors, .fail, { $0.scene.machine.descriptors = 64 }),
            (.fewDescriptors, .warn, { $0.scene.machine.descriptors = 200 }),
            (.notJoined, .warn, { try $0.daemon(set("overlay", "is_joined", false)) }),
            (.notJoined, .unknown, { _ in }),
            (
                .noConnections, .warn,
                {
                    try $0.daemon {
                        $0["connections"] = [[String: Any]]()
                        var member = $0["member"] as? [String: Any] ?? [:]
                        member["job"] = String(repeating: "cd", count: 32)
                        $0["member"] = member
                    }
                }
            ),
            (.daemonSilent, .fail, { $0.scene.daemons = [(folder: $0.root + "/den", status: nil)] }),
        ]
    }
    private static var memberFaults: [Fault] {
        [
            (.inviteOver, .fail, { try $0.memberInvite(-3 * 86_400) }),
            (.inviteOver, .ok, { try $0.memberInvite(3 * 86_400) }),
            (
                .inviteOver, .ok,
                {
                    try $0.memberInvite(-5)
                    try $0.membership(endedSecondsAgo: -3600)
                }
            ),
            (.removedFromPool, .fail, { try $0.membership(endedSecondsAgo: -3600, isRemoved: true) }),
            (.removedFromPool, .ok, { try $0.membership(endedSecondsAgo: -3600) }),
            (.membershipOver, .ok, { try $0.membership(endedSecondsAgo: -3600) }),
            (.membershipOver, .warn, { try $0.membership(endedSecondsAgo: 10 * 86_400) }),
            (.membershipOver, .fail, { try $0.membership(endedSecondsAgo: 181 * 86_400) }),
            (.membershipOver, .fail, { try $0.write("peer/pool", "atoll-pool 1\nnothing") }),
        ]
    }
    @Test func `whoever is turned away is told a code, and a page`() {
        for why in PoolRefusal.allCases {
            let text = PoolEntry.refused(why).description
            let code = DiagnosisCode.allCases.first { text.hasSuffix("[\($0.rawValue): atoll help \($0.rawValue)]") }
            #expect(code != nil && text.contains(why.toItself), "\(text)")
        }
        #expect(PoolEntry.refused(.inviteUsedUp).description.contains("INV-006"))
        #expect(PoolEntry.refused(.inviteExpired).description.contains("INV-006"))
        #expect(PoolEntry.refused(.removed).description.contains("POOL-004"))
        #expect(PoolEntry.refused(.removed).exitCode == 1)
    }
    private static func atHome(_ more: [String: Any]) -> (inout [String: Any]) -> Void {
        { all in
            let usual: [String: Any] = ["is_reachable": false, "external": "60.0.0.5:4000"]
            all["overlay"] = (all["overlay"] as? [String: Any] ?? [:]).merging(usual) { $1 }.merging(more) { $1 }
        }
    }
    private static func forwarding(_ state: String) -> (inout [String: Any]) -> Void {
        atHome(["forwarding": ["state": state, "endpoint": "60.0.0.5:4017", "why": "its settings do not allow it"]])
    }
    private static var lineFaults: [Fault] {
        [
            (.symmetricRouter, .warn, { try $0.daemon(atHome(["datagram_ports": "varies"])) }),
            (.symmetricRouter, .warn, { try $0.daemon(atHome(["connection_ports": "varies"])) }),
            (.symmetricRouter, .ok, { try $0.daemon(atHome(["connection_ports": "varies", "is_reachable": true])) }),
            (.portNotForwarded, .warn, { try $0.daemon(forwarding("refused")) }),
            (.portNotForwarded, .warn, { try $0.daemon(forwarding("silent")) }),
            (.portNotForwarded, .ok, { try $0.daemon(forwarding("asking")) }),
            (.secondRouter, .warn, { try $0.daemon(forwarding("behind")) }),
            (.forwardedInVain, .warn, { try $0.daemon(forwarding("vain")) }),
            (
                .brokenIPv6, .warn,
                {
                    $0.scene.machine.addresses = [Endpoint("[2001:db8::7]:0")!]
                    $0.scene.machine.hasWayOutIPv6 = false
                }
            ),
            (.smallPackets, .warn, { $0.scene.machine.segmentBytes = { _ in 1200 } }),
            (.smallPackets, .ok, { $0.scene.machine.segmentBytes = { _ in 1240 } }),
        ]
    }

    /// What the line is called, by what a daemon says of itself.
    @Test func `says what kind of line it is, and what follows`() throws {
        let open: [String: Any] = ["state": "open", "endpoint": "60.0.0.5:4017", "spoken": "PCP", "seconds_left": 90.0]
        let home: [String: Any] = ["is_reachable": false, "external": "60.0.0.5:4000"]
        func with(_ ports: [String: Any]) -> [String: Any] { home.merging(ports) { $1 } }
        let cases: [(overlay: [String: Any], kind: LineReport.Kind, words: String)] = [
            (["external": "60.0.0.5:4000"], .open, "can dial it"),
            (["external": "10.0.0.5:4000"], .private, "one private network"), (home, .closed, "relays"),
            (with(["datagram_ports": "same"]), .onePort, "introductions"),
            (with(["datagram_ports": "same", "connection_ports": "varies"]), .portEach, "relays only"),
            (["external": "60.0.0.5:4000", "forwarding": open], .forwarded, "60.0.0.5:4017"),
            (["contacts": 1], .unknown, "Nobody has said"),
        ]
        for (overlay, kind, words) in cases {
            let patient = try Patient()
            try patient.daemon { $0["overlay"] = ($0["overlay"] as? [String: Any] ?? [:]).merging(overlay) { $1 } }
            let line = Doctor(patient.scene).line()
            #expect(line.kind == kind && line.words.contains(words), "\(line)")
            #expect(line.segmentBytes == 1448 && !line.hasIPv6 && line.words.contains("1448"))
        }
        // A node that was made to look says so where no daemon runs.
        let patient = try Patient()
        #expect(Doctor(patient.scene).line().kind == .unknown && !Doctor(patient.scene).knowsLine)
        try patient.daemon(Self.atHome(["datagram_ports": "varies"]))
        patient.scene.probe = patient.scene.daemons[0].status!.daemon
        patient.scene.daemons = []
        #expect(Doctor(patient.scene).line().kind == .portEach)
        #expect(patient.findings.contains { $0.code == .unreachable && $0.state == .warn })
        #expect(patient.findings.contains { $0.code == .symmetricRouter && $0.state == .warn })
        patient.scene.machine.addresses = [Endpoint("[2001:db8::7]:0")!]
        #expect(Doctor(patient.scene).line().hasIPv6)
    }
    private static var machineFaults: [Fault] {
        [
            (.memoryBeyond, .fail, { try $0.daemon(set("member", "memory_mebibytes", 9000.0)) }),
            (.memoryBeyond, .unknown, { try $0.write("machine/proc/meminfo", "nothing\n") }),
            (.memoryLittle, .warn, { try $0.give([.memory: "32"]) }),
            (
                .memoryGroup, .warn,
                {
                    try $0.write("machine/proc/self/cgroup", "0::/box\n")
                    try $0.write("machine/sys/fs/cgroup/box/memory.max", "1073741824\n")
                }
            ),
            (.instructionSets, .fail, { $0.scene.machine.computesRight = false }),
            (.noIdlePriority, .warn, { $0.scene.machine.mayBeIdle = false }),
            (.threadsBeyond, .warn, { try $0.give([.threads: "64"]) }),
            (
                .folderNotWritable, .fail,
                {
                    // A file where the folder should be: root may write everywhere else.
                    $0.scene.folder = $0.root + "/invite.yaml"
                    $0.scene.machine.diskSeconds = nil
                }
            ),
            (.diskFull, .fail, { $0.scene.machine.freeBytes = { _ in 1 << 20 } }),
            (.diskFull, .warn, { $0.scene.machine.freeBytes = { _ in 1 << 28 } }),
            (.diskFull, .unknown, { $0.scene.machine.freeBytes = { _ in nil } }),
            (.diskSlow, .warn, { $0.scene.machine.diskSeconds = 0.5 }),
            (.usageDamaged, .warn, { try $0.write("peer/usage", "atoll-usage 1\n202611 5 5\nwrong\n") }),
            (.logDamaged, .unknown, { try $0.write("peer/key", "not a key") }),
            (.leaderSilent, .warn, { try $0.daemon(set("member", "state", "waiting")) }),
            (.workLost, .warn, { try $0.daemon(set("member", "work", batches(10, 10))) }),
        ]
    }
    private static var limitFaults: [Fault] {
        [
            (.batteryUnseen, .warn, { $0.scene.machine.sensors = $0.root + "/nothing" }),
            (
                .biting, .warn,
                {
                    try $0.daemon(
                        set(
                            "limits", "reasons",
                            [
                                ["limit": "on_battery", "why": "this machine runs on its battery", "seconds": 5.0]
                                    as [String: Any]
                            ]))
                }
            ),
            (.peerFile, .fail, { $0.scene.limits = .failure(.badInput("peer.yaml:3: limits.up_mbps: found “-1”")) }),
            (.userUnseen, .warn, { try $0.give([.userActive: "pause"]) }),
            (.loadUnseen, .warn, { try $0.give([.othersLoad: "40"]) }),
            (.heatUnseen, .warn, { try $0.give([.temperature: "70"]) }),
            (.meteredUnseen, .warn, { try $0.give([.metered: "pause"]) }),
            (
                .heat, .warn,
                {
                    try $0.give([.temperature: "70"])
                    try $0.write("machine/sys/class/hwmon/hwmon0/name", "coretemp\n")
                    try $0.write("machine/sys/class/hwmon/hwmon0/temp1_input", "91000\n")
                }
            ),
            (.neverOpen, .warn, { try $0.give([.hours: "mon 08:00-08:10"]) }),
            (
                .quotaNearly, .warn,
                {
                    try $0.give([.monthly: "1"])
                    try $0.daemon(set("limits", "month_sent_bytes", 1_050_000_000))
                }
            ),
        ]
    }

    @Test func `finds each fault, calls it by its code, and is healthy exactly where nothing fails`() throws {
        for (place, fault) in Self.faults.enumerated() {
            let patient = try Patient()
            try fault.put(patient)
            let found = patient.findings
            let named = found.filter { $0.code == fault.code && $0.state == fault.state }
            #expect(
                !named.isEmpty,
                "fault \(place): \(fault.code.rawValue) is not \(fault.state.rawValue): \(found.filter { $0.state != .ok })"
            )
            #expect(Doctor.isHealthy(found) == !found.contains { $0.state == .fail })
            if fault.state == .fail { #expect(!Doctor.isHealthy(found)) }
            if fault.state != .unknown, fault.state != .ok {
                #expect(named.allSatisfy { $0.remedy != nil }, "\(fault.code.rawValue) says nothing to try")
            }
        }
        // A metered connection is seen on a bus, and a damaged log is in the tests of logs.
        let injected = Set(Self.faults.map(\.code))
        #expect(Set(DiagnosisCode.allCases).subtracting(injected) == [.meteredNow])
        #expect(DiagnosisCode.allCases.count >= 30)
    }

    @Test func `every code has a page of its own, and a number for ever`() {
        let pages = DiagnosisCode.allCases.map(\.text)
        #expect(Set(pages).count == pages.count && Set(DiagnosisCode.allCases.map(\.title)).count == pages.count)
        for code in DiagnosisCode.allCases {
            let parts = code.rawValue.split(separator: "-")
            #expect(parts.count == 2 && parts[1].count == 3 && Int(parts[1]) != nil, "\(code.rawValue)")
            #expect(code.text.hasPrefix(code.rawValue) && code.text.contains("What to do: ") && code.text.count > 120)
        }
        // These have been given, and are never given to something else.
        #expect(DiagnosisCode.unreachable.rawValue == "NET-003" && DiagnosisCode.userUnseen.rawValue == "LIM-004")
        #expect(DiagnosisCode.memoryBeyond.rawValue == "MEM-001" && DiagnosisCode.keyMode.rawValue == "ID-001")
    }
}
