import Coordination
import Daemon
import Digests
import EventLoop
import Foundation
import Lending
import Membership
import Node
import Primitives
import Record
import Sensors
import Telemetry
import Testing

/// What one thread finds out for another.
private final class Notes<Value: Sendable>: @unchecked Sendable {
    private let lock = NSLock()
    private var values: [Value] = []
    func note(_ value: Value) { lock.withLock { values.append(value) } }
    var all: [Value] { lock.withLock { values } }
}

@Suite struct `A peer that keeps to its owner's limits` {
    private func temporary() -> String { NSTemporaryDirectory() + "limits-\(UUID().uuidString)" }

    /// A peer that runs for real on a machine whose sensors are files, and an owner who asks it from another thread.
    private func withPeer(
        _ folder: String, _ values: [LimitKey: String], owner: @escaping @Sendable () -> Void
    ) throws -> [Happening] {
        let data = try DataFolder(folder)
        defer { data.close() }
        let run = ServiceRun()
        run.keeper = LimitKeeper(
            try LimitLayers([
                .init(name: "peer.yaml", values: values), .init(name: LimitLayers.byCommand, values: [:]),
            ]), folder: folder, sensors: MachineSensors(root: folder + "/machine"))
        let events = Notes<Happening>()
        _ = try run.run(
            LiveDaemon.Setup(
                key: data.key, listen: Endpoint(ipv4: 127, 0, 0, 1, port: 0),
                poolKey: [UInt8](repeating: 7, count: 32), bootstrap: [], emulation: nil, seed: 1), folder: data,
            services: { now in
                DaemonCore.Services(
                    member: Member(
                        key: data.key,
                        terms: MemberTerms(name: "mine", device: "cpu", memory: .mebibytes(64), accepts: []),
                        wall: WallClock(secondsAtZero: 1000), at: now, parse: JobParameters.init(manifest:)))
            }, ready: { (_) throws(NodeError) in Thread { owner() }.start() }, onEvent: { events.note($0.what) })
        return events.all
    }
    private func battery(_ folder: String, _ status: String) throws {
        let place = folder + "/machine/sys/class/power_supply/BAT0"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        try "Battery\n".write(toFile: place + "/type", atomically: false, encoding: .utf8)
        try (status + "\n").write(toFile: place + "/status", atomically: false, encoding: .utf8)
    }

    /// An owner's, and what a peer may do then: of a pause that has lasted long enough, the second time.
    private static let words: [(ControlService.Request, Allowance.Mode)] = [
        (.init(.pause), .hold), (.init(.set, key: "hand_over_after_s", value: "0"), .away), (.init(.resume), .work),
        (.init(.set, key: "hand_over_after_s", value: "default"), .work), (.init(.drain), .drain),
    ]

    @Test func `stops for a battery and for its owner, changes a limit when it is told to, and says why`() throws {
        let folder = temporary()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try battery(folder, "Full")
        let (modes, said, told) = (Notes<String>(), Notes<String>(), Notes<ControlService.Answer>())
        let events = try withPeer(folder, [.handOverAfter: "3600", .temperature: "70", .upload: "4", .metered: "work"])
        { [self] in
            func ask(_ request: ControlService.Request) -> ControlService.Answer? {
                (try? ControlService.ask(request, in: folder))?.answer
            }
            func until(_ mode: Allowance.Mode) {
                for _ in 0..<400 {
                    guard ask(.init(.status))?.status?.limits?.mode != mode else { return modes.note(mode.rawValue) }
                    usleep(25_000)
                }
            }
            until(.work)
            try? battery(folder, "Discharging")
            until(.hold)
            if let answer = ask(.init(.why, about: "nothing such|battery")) { told.note(answer) }
            try? battery(folder, "Charging")
            until(.work)
            for (request, mode) in Self.words {
                _ = ask(request)
                until(mode)
            }
            for (key, value) in [
                ("up_mbps", "2"), ("up_mbps", "-2"), ("upp", "2"), ("threads", "2"), ("hours", "always"),
            ] {
                let answer = ask(.init(.set, key: key, value: value))
                said.note(answer?.said ?? answer?.error ?? "nothing")
            }
            if let answer = ask(.init(.status)) { told.note(answer) }
            _ = ask(.init(.leave))
        }
        #expect(modes.all == ["work", "hold", "work", "hold", "away", "work", "work", "drain"])
        #expect(said.all.first == "up_mbps is 2 from now on")
        #expect(said.all.dropFirst().first?.contains("found “-2”; allowed: none, or a number of Mbit/s") == true)
        #expect(said.all.contains { $0.contains("no limit is called upp") })
        #expect(said.all.contains("threads is 2 from the next start on"))
        // What is shown leads to the events behind it.
        let lines = told.all.first?.events?.map(\.json) ?? []
        #expect(lines.count == 1 && lines[0].contains("\"work_held\"") && Event(json: lines[0]) != nil)
        let limits = try #require(told.all.last?.status?.limits)
        #expect(limits.unseen.map(\.limit) == ["temperature_c"] && limits.cpuPercent == 50)
        #expect(limits.values.first { $0.key == "up_mbps" }?.source == LimitLayers.byCommand)
        #expect(limits.values.count == LimitKey.allCases.count && limits.monthDamage == nil && limits.month > 202_000)
        for kind in [
            "work_held", "work_taken_up", "work_handed_over", "owner_paused", "owner_resumed", "limit_unseen",
            "limit_changed",
        ] {
            #expect(events.contains { $0.kind == kind }, "\(kind)")
        }
        // What a command gave is there at the next start.
        let kept = try PeerFile(parsing: readFile(folder + "/limits.yaml"), file: "limits.yaml")
        #expect(kept.limits == [.upload: "2", .threads: "2", .hours: "always"])
    }

    @Test func `a month's bytes survive crashes, damage is no zero, and a clock that jumps back changes nothing`()
        throws
    {
        let folder = temporary()
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        func damage(_ name: String) throws {
            var bytes = try readFile(folder + "/" + name)
            bytes[bytes.count / 2] ^= 1
            try writeFile(folder + "/" + name, bytes)
        }
        let first = UsageFile(folder: folder)
        #expect(first.used == .value(ByteCount(0)))
        first.add(sent: 1000, received: 500, month: 202_611)
        try first.save()
        first.add(sent: 1, received: 0, month: 202_611)
        try first.save()
        #expect(UsageFile(folder: folder).used == .value(ByteCount(1501)))
        // Of a file that is damaged the one before counts.
        try damage("usage")
        let second = UsageFile(folder: folder)
        #expect(second.used == .value(ByteCount(1500)) && second.month == 202_611)
        second.add(sent: 10, received: 0, month: 202_610)
        #expect(second.used == .value(ByteCount(1510)), "a clock that was set back")
        try second.save()
        try damage("usage")
        try damage("usage.before")
        let third = UsageFile(folder: folder)
        #expect(third.used.value == nil && third.used.why?.contains("damaged") == true)
        // It stays unknown over restarts, until the month is over or its owner says what counts.
        third.add(sent: 5, received: 5, month: 202_611)
        try third.save()
        let fourth = UsageFile(folder: folder)
        #expect(fourth.used.value == nil)
        fourth.add(sent: 7, received: 0, month: 202_612)
        #expect(fourth.used == .value(ByteCount(7)))
        #expect(third.used.value == nil)
        third.forgive()
        #expect(third.used == .value(ByteCount(10)))
    }
}

@Suite struct `A month's bytes` {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = NSTemporaryDirectory() + "usage-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder)
    }
    @Test func `written down before they are used are not forgotten when a peer is killed`() throws {
        try withFolder { folder in
            let usage = UsageFile(folder: folder)
            usage.add(sent: 100, received: 50, month: 202_611)
            #expect(usage.isDue(next: 0))
            try usage.save(ahead: 1000)
            #expect(usage.used == .value(ByteCount(150)) && !usage.isDue(next: 900))
            usage.add(sent: 500, received: 100, month: 202_611)
            #expect(!usage.isDue(next: 400) && usage.isDue(next: 401))
            // Killed here: at least what was used counts, and not more than was written down.
            let second = UsageFile(folder: folder)
            #expect(second.used == .value(ByteCount(1150)) && second.damage == nil)
            // Again and again it is no more than one reservation each.
            try second.save(ahead: 1000)
            let third = UsageFile(folder: folder)
            #expect(third.used == .value(ByteCount(2150)))
            third.add(sent: 1, received: 1, month: 202_611)
            // One that ends in order has used what it has used.
            try third.save()
            #expect(UsageFile(folder: folder).used == .value(ByteCount(2152)))
        }
    }
    @Test func `of a first second count, too`() throws {
        try withFolder { folder in
            let usage = UsageFile(folder: folder)
            usage.add(sent: 0, received: 0, month: 202_611)
            try usage.save(ahead: 500)
            #expect(UsageFile(folder: folder).used == .value(ByteCount(500)))
        }
    }
    @Test func `of an earlier version are read`() throws {
        try withFolder { folder in
            let body = "atoll-usage 2\n202611 0 0\n202611 70 7\nlost"
            let text = body + "\n" + sha256(Array(body.utf8)).hex.prefix(16) + "\n"
            try writeFile(folder + "/usage", Array(text.utf8))
            #expect(UsageFile(folder: folder).used == .value(ByteCount(77)))
        }
    }
}

@Suite struct `Descriptors that run out` {
    @Test func `are said once when it begins, and once when it is over`() {
        var watch = DescriptorWatch()
        var told: [String] = []
        for (second, isScarce) in [false, true, true, false, true, false, false, false].enumerated() {
            let what = watch.look(isScarce: isScarce, limit: 128, at: Instant(seconds: Double(5 * second)))
            if let what { told.append("\(second) \(what.kind)") }
        }
        #expect(told == ["1 descriptors_scarce", "6 descriptors_back"])
    }
    @Test func `leave some to the owner, and some to files`() {
        let limit = Int32(DescriptorLimit.current)
        #expect(DescriptorLimit.isReserved(limit - 1) && DescriptorLimit.isReserved(limit - 1, from: .owner))
        #expect(!DescriptorLimit.isReserved(0) && !DescriptorLimit.isReserved(0, from: .owner))
        #expect(
            (0..<limit).contains { DescriptorLimit.isReserved($0) && !DescriptorLimit.isReserved($0, from: .owner) })
    }
}

@Suite struct `A peer's folder is its owner's` {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = NSTemporaryDirectory() + "owner-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder)
    }
    private func mode(_ path: String) -> UInt32 {
        var info = stat()
        return stat(path, &info) == 0 ? UInt32(info.st_mode) & 0o777 : 0
    }

    @Test func `nobody else can read what lies in it, nor in one that an earlier version made`() throws {
        try withFolder { folder in
            try DataFolder(folder).close()
            #expect(mode(folder) == 0o700)
            for part in ["log", "chunks", "checkpoints", "rounds"] { #expect(mode(folder + "/" + part) == 0o700) }
            chmod(folder + "/chunks", 0o755)
            try DataFolder(folder).close()
            #expect(mode(folder + "/chunks") == 0o700)
        }
    }
    @Test func `a lock file that is removed lets no second daemon in`() throws {
        try withFolder { folder in
            let first = try DataFolder(folder)
            unlink(folder + "/lock")
            #expect(DataFolder.isBusy(folder))
            #expect(throws: NodeError.self) { try DataFolder(folder) }
            #expect(DataFolder.isBusy(folder), "a refused one does not take the first one's lock away")
            first.close()
            #expect(!DataFolder.isBusy(folder))
        }
    }
    @Test func `a key that others can read, or that is not there, is said, and no other is made in its place`() throws {
        try withFolder { folder in
            let data = try DataFolder(folder)
            let (key, path) = (data.key.peerID, folder + "/key")
            data.close()
            func problem() -> String {
                do throws(NodeError) { _ = try DataFolder.loadKey(path) } catch { return error.description }
                return ""
            }
            for open: mode_t in [0o644, 0o666, 0o640] {
                chmod(path, open)
                #expect(problem().contains("[ID-001"))
            }
            chmod(path, 0o600)
            #expect(try DataFolder.loadKey(path).peerID == key)
            rename(path, path + ".away")
            symlink("/nowhere/at/all", path)
            #expect(problem().contains("a link that leads nowhere") && problem().contains("[ID-005"))
            unlink(path)
            mkdir(path, 0o700)
            #expect(problem().contains("is not a file"))
        }
    }
    @Test func `a limit is given without a daemon, within what the machine has, and a peer that runs is not passed by`()
        throws
    {
        try withFolder { folder in
            #expect(throws: NodeError.self) { try LimitFiles.set("up_mbps", to: "2", in: folder) }
            let data = try DataFolder(folder)
            #expect(throws: NodeError.self) { try LimitFiles.set("up_mbps", to: "2", in: folder) }
            data.close()
            #expect(try LimitFiles.set("up_mbps", to: "2", in: folder) == "up_mbps is 2 from the next start on")
            #expect(throws: NodeError.self) { try LimitFiles.set("memory_mib", to: "1000000000", in: folder) }
            let file = try LimitFiles.read(folder + "/" + LimitFiles.ofCommands, mustExist: true)
            #expect(file.limits == [.upload: "2"])
            #expect(
                try LimitFiles.set("up_mbps", to: "default", in: folder) == "up_mbps is none from the next start on")
        }
    }
    @Test
    func
        `of an owner's file a link that leads nowhere and bytes that are no text are said, and comments decide nothing`()
        throws
    {
        try withFolder { folder in
            try DataFolder(folder).close()
            let path = folder + "/peer.yaml"
            #expect(try LimitFiles.read(path, mustExist: false) == PeerFile())
            symlink("/nowhere/at/all", path)
            #expect(throws: NodeError.self) { try LimitFiles.read(path, mustExist: false) }
            unlink(path)
            try writeFile(path, Array("# nothing yet\n\n  # really\n".utf8))
            #expect(try LimitFiles.read(path, mustExist: false) == PeerFile())
            try writeFile(path, Array("name: one\nlimits:\n  up_mbps: 1\n  hours: always\n  up_mbps: 2\n".utf8))
            do throws(NodeError) {
                _ = try LimitFiles.read(path, mustExist: false)
                Issue.record("a key twice was read")
            } catch { #expect(error.description.contains("peer.yaml:5: up_mbps"), "\(error)") }
        }
    }
    @Test func `what an invite that was cut says is no secret`() throws {
        try withFolder { folder in
            try DataFolder(folder).close()
            let secret = String(repeating: "5e", count: 32)
            let path = folder + "/invite.yaml"
            for text in [
                "name: pool\nwarrant: \"00\"\nissuer: \"\(secret.prefix(50))", "pool: \"\(secret)\nname: x",
                "\(secret): 1", "name: pool\n\(secret)\nbootstrap: []", "issuer: \"\(secret)\"\nissuer: \"\(secret)\"",
            ] {
                try writeFile(path, Array(text.utf8))
                do throws(NodeError) {
                    _ = try Invite(file: path)
                    Issue.record("it was read")
                } catch { #expect(!error.description.contains("5e5e5e5e"), "\(error)") }
            }
        }
    }
    @Test func `a control socket that is removed, or that another file takes the place of, is put back`() throws {
        try withFolder { folder in
            try DataFolder(folder).close()
            let (loop, path) = (Loop(), folder + "/control")
            defer { loop.close() }
            let listener = try LocalListener(loop, path: path) { stream, line in stream.write("heard \(line)") }
            defer { listener.close() }
            #expect(listener.isInPlace)
            for spoil in [{ unlink(path) }, { unlink(path) + symlink("/nowhere", path) }] {
                #expect(spoil() == 0 && !listener.isInPlace)
                try listener.putBack()
                #expect(listener.isInPlace && mode(path) == 0o600)
            }
            let answers = Notes<String>()
            Thread {
                answers.note((try? LocalClient(path: path).ask("status")) ?? "nothing")
                loop.stop()
            }.start()
            loop.run()
            #expect(answers.all == ["heard status"])
        }
    }
    @Test func `who asks a daemon nothing keeps nobody else from asking`() throws {
        try withFolder { folder in
            try DataFolder(folder).close()
            let loop = Loop()
            defer { loop.close() }
            let listener = try LocalListener(loop, path: folder + "/control") { stream, line in
                stream.write("heard \(line)")
            }
            defer { listener.close() }
            let answers = Notes<String>()
            Thread {
                let silent = (0..<40).map { _ in try? LocalClient(path: folder + "/control") }
                answers.note((try? LocalClient(path: folder + "/control").ask("status")) ?? "nothing")
                answers.note("\(silent.count)")
                loop.stop()
            }.start()
            loop.run()
            #expect(answers.all == ["heard status", "40"])
        }
    }
}
