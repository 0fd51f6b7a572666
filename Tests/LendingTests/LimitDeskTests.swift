import Lending
import Primitives
import Telemetry
import Testing

/// A desk whose sensors say what a test has them say, a second apart.
private struct Bench {
    var desk: LimitDesk
    var now = Instant(seconds: 100)
    static let fine = Readings(
        onBattery: .value(false), userIdle: .value(.seconds(1000)), othersLoad: .value(0), temperature: .value(40),
        isMetered: .value(false), moment: LocalMoment(weekday: 0, minute: 600, month: 202_611),
        monthBytes: .value(ByteCount(0)))
    var readings = fine
    var events: [Happening] = []
    /// What the driver was told last.
    var told: Allowance?

    init(_ change: (inout OwnerLimits) throws -> Void = { _ in }) throws {
        var limits = OwnerLimits()
        try change(&limits)
        desk = LimitDesk(limits)
        step(0)
    }
    var mode: Allowance.Mode { desk.allowance.mode }
    var senses: [LimitSense] { desk.allowance.reasons.map(\.sense) }
    /// Lets time pass, reading the sensors once a second as a driver does, and waking when asked to.
    mutating func step(_ seconds: Double = 1, _ change: (inout Readings) -> Void = { _ in }) {
        change(&readings)
        let end = now + .milliseconds(Int64(seconds * 1000))
        repeat {
            desk.receive(readings, at: now)
            drain()
            let next = min(now + .seconds(1), end)
            while let wake = desk.nextWake, wake <= next {
                #expect(wake > now, "a core that wants to be woken at once for ever")
                now = wake
                desk.wake(at: now)
                drain()
            }
            now = next
        } while now < end
        desk.receive(readings, at: now)
        drain()
    }
    mutating func drain() {
        while let effect = desk.poll() {
            switch effect {
            case .allow(let allowance): told = allowance
            case .event(let what): events.append(what)
            }
        }
        #expect(told == nil || told == desk.allowance, "the driver was not told")
    }
}

@Suite struct `What a peer may do now` {
    @Test func `a battery frees the processor at once, and hands over after the pause that its owner allows`() throws {
        var bench = try Bench()
        #expect(bench.mode == .work)
        bench.step(0.001) { $0.onBattery = .value(true) }
        #expect(bench.mode == .hold && bench.senses == [.battery] && !bench.desk.allowance.isComputing)
        bench.step(4.9)
        #expect(bench.mode == .hold)
        bench.step(0.2)
        #expect(bench.mode == .away)
        #expect(bench.events.map(\.kind) == ["work_held", "work_handed_over"])
        bench.step(1) { $0.onBattery = .value(false) }
        #expect(bench.mode == .away, "a plug that makes poor contact")
        bench.step(2)
        #expect(bench.mode == .work && bench.events.last?.kind == "work_taken_up")
    }

    @Test func `ten short pauses hand nothing over`() throws {
        var bench = try Bench()
        for _ in 0..<10 {
            bench.step(2) { $0.onBattery = .value(true) }
            #expect(bench.mode == .hold)
            bench.step(10) { $0.onBattery = .value(false) }
            #expect(bench.mode == .work)
        }
        #expect(!bench.events.contains { $0.kind == "work_handed_over" })
    }

    /// That a plug holds is believed after two seconds: they are no part of the pause that the owner allows.
    @Test(arguments: [3.0, 4.0, 4.9]) func `a reason that is over in time is not handed over for`(pause: Double) throws
    {
        var bench = try Bench()
        for _ in 0..<10 {
            bench.step(pause) { $0.onBattery = .value(true) }
            bench.step(1.9) { $0.onBattery = .value(false) }
            #expect(bench.mode == .hold)
            bench.step(0.2)
            #expect(bench.mode == .work)
            bench.step(10)
        }
        #expect(!bench.events.contains { $0.kind == "work_handed_over" })
        // A plug that makes poor contact, or one that comes too late.
        bench.step(pause) { $0.onBattery = .value(true) }
        bench.step(1) { $0.onBattery = .value(false) }
        bench.step(1) { $0.onBattery = .value(true) }
        #expect(bench.mode == .away)
        bench.step(10) { $0.onBattery = .value(false) }
        bench.step(5.1) { $0.onBattery = .value(true) }
        bench.step(0.1) { $0.onBattery = .value(false) }
        #expect(bench.mode == .away)
    }

    @Test func `of load and heat the place is handed over, where they are not believed to be over by then`() throws {
        var bench = try Bench { limits in limits.othersLoad = 0.2 }
        bench.step(4) { $0.othersLoad = .value(0.9) }
        #expect(bench.mode == .hold)
        bench.step(5) { $0.othersLoad = .value(0) }
        #expect(bench.mode == .away, "they would wait for ten seconds")
        // A limit that is new has no reading yet: nothing is said of it before there is one.
        var new = try Bench()
        new.step(1) { $0.temperature = .unknown(Readings.notAsked) }
        var limits = new.desk.limits
        try limits.set(.temperature, to: "80")
        new.desk.set(limits, at: new.now)
        #expect(new.desk.allowance.unseen.isEmpty && new.mode == .work)
        new.step(1) { $0.temperature = .unknown("there is no thermometer") }
        #expect(new.desk.allowance.unseen.map(\.why) == ["there is no thermometer"])
        var soon = try Bench { limits in (limits.othersLoad, limits.resumeAfter) = (0.2, .seconds(4)) }
        soon.step(5) { $0.othersLoad = .value(0.9) }
        soon.step(4.1) { $0.othersLoad = .value(0) }
        #expect(soon.mode == .work && !soon.events.contains { $0.kind == "work_handed_over" })
    }

    @Test func `load and heat begin and end with hysteresis`() throws {
        var bench = try Bench {
            try $0.set(.othersLoad, to: "40")
            try $0.set(.temperature, to: "80")
            try $0.set(.handOverAfter, to: "3600")
        }
        bench.step(2) { $0.othersLoad = .value(0.9) }
        #expect(bench.mode == .work, "two seconds are a burst")
        bench.step(2)
        #expect(bench.mode == .hold && bench.senses == [.load])
        bench.step(60) { $0.othersLoad = .value(0.35) }
        #expect(bench.mode == .hold, "a little below the limit is not over")
        bench.step(9) { $0.othersLoad = .value(0.1) }
        #expect(bench.mode == .hold)
        bench.step(2)
        #expect(bench.mode == .work)
        bench.step(1) { $0.temperature = .value(81) }
        #expect(bench.senses == [.heat])
        bench.step(60) { $0.temperature = .value(77) }
        #expect(bench.mode == .hold, "not five degrees cooler")
        bench.step(11) { $0.temperature = .value(74) }
        #expect(bench.mode == .work)
    }

    @Test func `a user's sensor is believed when it has been seen to change`() throws {
        var bench = try Bench { try $0.set(.userActive, to: "pause") }
        #expect(bench.mode == .work && bench.desk.allowance.unseen.map(\.sense) == [.user])
        #expect(bench.desk.allowance.isLowestPriority)
        bench.step(1) { $0.userIdle = .value(.zero) }
        #expect(bench.mode == .hold && bench.desk.allowance.unseen.isEmpty)
        bench.step(30) { $0.userIdle = .value(.seconds(179)) }
        #expect(bench.mode == .away)
        bench.step(1) { $0.userIdle = .value(.seconds(181)) }
        #expect(bench.mode == .work)
        // One that never says anything else is not a user who is always there.
        var stuck = bench.readings
        stuck.userIdle = .value(.zero)
        var fresh = LimitDesk(bench.desk.limits)
        for second in 0..<100 { fresh.receive(stuck, at: Instant(seconds: Double(second))) }
        #expect(fresh.allowance.mode == .work && fresh.allowance.unseen.first?.why.contains("in use") == true)
    }

    @Test(arguments: [("careful", Allowance.Mode.work, 0.5), ("work", .work, 1), ("pause", .hold, 1)])
    func `what no sensor sees is dealt with as the owner says`(rule: String, mode: Allowance.Mode, share: Double) throws
    {
        var bench = try Bench {
            try $0.set(.unseen, to: rule)
            try $0.set(.temperature, to: "70")
            try $0.set(.priority, to: "normal")
        }
        bench.step(1) { $0.temperature = .unknown("no sensor of a processor") }
        #expect(bench.mode == mode && bench.desk.allowance.cpuShare == share)
        #expect(bench.desk.allowance.isLowestPriority == (rule == "careful"))
        if rule == "pause" {
            #expect(bench.desk.allowance.reasons.first?.why.contains("no sensor of a processor") == true)
        } else {
            #expect(bench.events.contains { $0.kind == "limit_unseen" })
        }
        // Unknown is neither cool nor hot: nothing of it is remembered when it can be seen again.
        bench.step(20) { $0.temperature = .value(40) }
        #expect(bench.mode == .work && bench.desk.allowance.cpuShare == 1 && bench.desk.allowance.unseen.isEmpty)
    }

    @Test func `hours and a month's bytes let a round end first, and say until when`() throws {
        var bench = try Bench {
            try $0.set(.hours, to: "mon 10:00-11:00, wed 22:00-02:00")
            try $0.set(.monthly, to: "1")
        }
        bench.step(1) { $0.moment.minute = 660 }
        #expect(bench.mode == .drain && bench.desk.allowance.isComputing)
        #expect(bench.desk.allowance.reasons.first?.until == "wed 22:00")
        bench.step(60) { $0.monthBytes = .value(ByteCount(1 << 30)) }
        #expect(bench.mode == .drain && bench.senses == [.hours, .quota])
        bench.step(1) { $0.onBattery = .value(true) }
        #expect(bench.mode == .hold, "what is urgent does not wait for the round")
        bench.step(10) { $0 = Bench.fine }
        #expect(bench.mode == .work)
        bench.step(1) { $0.monthBytes = .unknown("usage: damaged") }
        #expect(bench.mode == .drain && bench.senses == [.quota], "what was used cannot be known: it may be all")
    }

    @Test func `its owner's word is obeyed at once, and counts until it is taken back`() throws {
        var bench = try Bench()
        bench.desk.pauseByOwner(drain: true, at: bench.now)
        bench.drain()
        #expect(bench.mode == .drain)
        bench.desk.pauseByOwner(at: bench.now)
        bench.drain()
        #expect(bench.mode == .hold && bench.senses == [.owner] && !bench.desk.allowance.isComputing)
        bench.step(4.9)
        #expect(bench.mode == .hold)
        bench.step(0.2)
        #expect(bench.mode == .away, "what lasts longer than its owner's limit for pauses is handed over")
        bench.step(1000)
        #expect(bench.mode == .away)
        bench.desk.resumeByOwner(at: bench.now)
        bench.drain()
        #expect(bench.mode == .work)
        // Before any sensor has spoken, too.
        var silent = LimitDesk(OwnerLimits())
        silent.pauseByOwner(at: .zero)
        #expect(silent.allowance.mode == .hold && silent.nextWake == .zero + .seconds(5))
        silent.wake(at: .zero + .seconds(5))
        #expect(silent.allowance.mode == .away)
        silent.resumeByOwner(at: .zero + .seconds(6))
        #expect(silent.allowance.mode == .work)
    }

    /// What is unsealed of a pipeline goes on where it stood: nobody takes the place of somebody who is back in a moment.
    @Test func `ten short pauses by its owner hand nothing over either, and one that costs money does at once`() throws
    {
        var bench = try Bench()
        for _ in 0..<10 {
            bench.desk.pauseByOwner(at: bench.now)
            bench.step(3)
            #expect(bench.mode == .hold)
            bench.desk.resumeByOwner(at: bench.now)
            bench.step(1)
            #expect(bench.mode == .work)
        }
        #expect(Set(bench.events.map(\.kind)) == ["work_held", "work_taken_up"])
        bench.desk.pauseByOwner(at: bench.now)
        bench.step(1) { $0.isMetered = .value(true) }
        #expect(bench.mode == .away)
    }

    @Test func `a limit that is changed counts at once`() throws {
        var bench = try Bench()
        bench.step(1) { $0.onBattery = .value(true) }
        var limits = bench.desk.limits
        try limits.set(.onBattery, to: "work")
        try limits.set(.upload, to: "2.5")
        bench.desk.set(limits, at: bench.now)
        bench.drain()
        bench.step(2)
        #expect(bench.mode == .work && bench.desk.allowance.upload == .megabits(2.5))
        #expect(bench.events.filter { $0.kind == "limit_changed" }.count == 2)
    }

    @Test func `a sensor that vanishes ends nothing for ten minutes, and what needs no sensor goes on counting`() throws
    {
        var bench = try Bench {
            try $0.set(.temperature, to: "70")
            try $0.set(.monthly, to: "1")
        }
        bench.step(1) { $0.temperature = .value(95) }
        #expect(bench.mode == .hold)
        bench.step(100) { $0.temperature = .unknown("gone") }
        #expect(bench.senses == [.heat] && bench.desk.allowance.unseen.map(\.sense) == [.heat])
        bench.step(900)
        #expect(bench.mode == .work && bench.desk.allowance.cpuShare == 0.5)
        // Seen and cool, it counts at once as ever.
        bench.step(1) { $0.temperature = .value(95) }
        bench.step(100) { $0.temperature = .value(40) }
        #expect(bench.mode == .work)
        let moment = bench.readings.moment
        let limits = bench.desk.limits
        bench.step(3) {
            $0 = .silent("they do not answer", for: limits, moment: moment, monthBytes: .value(ByteCount(2 << 30)))
        }
        #expect(bench.senses == [.quota] && bench.desk.allowance.unseen.contains { $0.sense == .heat })
    }

    @Test func `a thousand moods of all sensors never leave a reason that nobody gives, or a pause without one`() throws
    {
        var random = SeededGenerator(seed: 16)
        func draw<V>(_ values: [Reading<V>]) -> Reading<V> { values[Int(random.next() % UInt64(values.count))] }
        var bench = try Bench {
            for (key, text) in [
                (LimitKey.userActive, "pause"), (.othersLoad, "40"), (.temperature, "70"), (.monthly, "1"),
                (.hours, "mon-fri 08:00-20:00"),
            ] { try $0.set(key, to: text) }
        }
        for _ in 0..<1000 {
            bench.step(Double(random.next() % 8)) { readings in
                readings.onBattery = draw([.value(true), .value(false), .unknown("gone")])
                readings.userIdle = draw([.value(.zero), .value(.seconds(500)), .unknown("gone")])
                readings.othersLoad = draw([.value(0), .value(0.5), .unknown("gone")])
                readings.temperature = draw([.value(50), .value(90), .unknown("gone")])
                readings.isMetered = draw([.value(true), .value(false), .unknown("gone")])
                readings.monthBytes = draw([.value(ByteCount(1)), .value(ByteCount(1 << 40)), .unknown("gone")])
                readings.moment.minute = Int(random.next() % 1440)
            }
            #expect((bench.mode == .work) == bench.senses.isEmpty)
            #expect(bench.desk.allowance.reasons.allSatisfy { !$0.why.isEmpty && $0.since <= bench.now })
            if bench.mode == .drain { #expect(bench.senses.allSatisfy { $0 == .hours || $0 == .quota }) }
        }
        // All is well again, and so is the peer.
        bench.step(30) { $0 = Bench.fine }
        #expect(bench.mode == .work && bench.desk.nextWake == nil)
    }
}
