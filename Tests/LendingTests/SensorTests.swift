import Glibc
import Lending
import Primitives
import Sensors
import Testing

/// A machine whose `/sys` and `/proc` are as a test writes them.
private final class FakeMachine {
    let root: String
    init() {
        var template = Array("/tmp/atoll-sensors-XXXXXX".utf8CString)
        root = String(cString: mkdtemp(&template)!)
    }
    deinit { remove(root) }
    private func remove(_ path: String) {
        if let folder = opendir(path) {
            while let entry = readdir(folder) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                    String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                }
                if name != ".", name != ".." { remove(path + "/" + name) }
            }
            closedir(folder)
            rmdir(path)
        } else {
            unlink(path)
        }
    }
    func folder(_ path: String) {
        var done = root
        for part in path.split(separator: "/") {
            done += "/" + part
            mkdir(done, 0o700)
        }
    }
    func write(_ path: String, _ text: String) {
        folder(path.split(separator: "/").dropLast().joined(separator: "/"))
        let file = open(root + path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        let bytes = Array((text + "\n").utf8)
        #expect(Glibc.write(file, bytes, bytes.count) == bytes.count)
        close(file)
    }
    func supply(_ name: String, _ values: [String: String]) {
        for key in values.keys.sorted() { write("/sys/class/power_supply/\(name)/\(key)", values[key]!) }
    }
    func read(_ sensors: MachineSensors? = nil, at seconds: Double = 0) throws -> Readings {
        var limits = OwnerLimits()
        for (key, text) in [(LimitKey.othersLoad, "50"), (.temperature, "70"), (.userActive, "pause")] {
            try limits.set(key, to: text)
        }
        return (sensors ?? MachineSensors(root: root)).read(
            for: limits, moment: localMoment(secondsSince1970: 0), monthBytes: .value(ByteCount(0)),
            at: Instant(seconds: seconds))
    }
}

@Suite struct `Sensors of a machine` {
    @Test func `the processor time of all threads is added up, also of those that have ended`() {
        let machine = FakeMachine()
        let meter = ProcessorMeter(root: machine.root)
        #expect(meter.read().why?.contains("/proc/self/task") == true)
        machine.write("/proc/stat", "cpu  1 2 3\ncpu0 1 2 3\ncpu1 1 2 3\nprocs_running 9")
        machine.write("/proc/self/task/7/schedstat", "1000000000 2000000000 5")
        machine.write("/proc/self/task/8/schedstat", "500000000 0 5")
        #expect(meter.processors == 2)
        #expect(meter.read() == .value(ProcessorTime(ran: .milliseconds(1500), waited: .seconds(2))))
        unlink(machine.root + "/proc/self/task/8/schedstat")
        machine.write("/proc/self/task/7/schedstat", "1200000000 2100000000 6")
        #expect(meter.read() == .value(ProcessorTime(ran: .milliseconds(1700), waited: .milliseconds(2100))))
        // Another thread with the number of one that has ended.
        machine.write("/proc/self/task/7/schedstat", "100000000 0 1")
        #expect(meter.read() == .value(ProcessorTime(ran: .milliseconds(1800), waited: .milliseconds(2100))))
    }

    @Test func `a battery is what feeds the machine, and nothing is neither yes nor no`() throws {
        let machine = FakeMachine()
        #expect(try machine.read().onBattery.why?.contains("there is no /sys/class/power_supply") == true)
        machine.folder("/sys/class/power_supply")
        #expect(try machine.read().onBattery == .value(false), "a machine without a battery")
        machine.supply("mouse", ["type": "Battery", "scope": "Device", "status": "Discharging"])
        #expect(try machine.read().onBattery == .value(false), "a mouse")
        machine.supply("BAT0", ["type": "Battery", "present": "1", "status": "Unknown"])
        #expect(try machine.read().onBattery.value == nil, "nobody says what feeds it")
        machine.supply("BAT0", ["status": ""])
        #expect(try machine.read().onBattery.value == nil, "an empty word is none")
        machine.supply("BAT0", ["status": "Discharging"])
        #expect(try machine.read().onBattery == .value(true))
        machine.supply("AC", ["type": "Mains", "online": "0"])
        machine.supply("ucsi", ["type": "USB", "online": "1"])
        #expect(try machine.read().onBattery == .value(false), "fed at a USB port")
        machine.supply("ucsi", ["online": "0"])
        #expect(try machine.read().onBattery == .value(true))
        machine.supply("BAT0", ["present": "0"])
        #expect(try machine.read().onBattery == .value(false), "a battery that was taken out")
    }

    /// A link to itself stands for whatever keeps a file from being opened: too many open files, say.
    @Test func `a file that is there and cannot be read hides what it says: that is not known, and why is said`() throws
    {
        let machine = FakeMachine()
        func hide(_ path: String) {
            unlink(machine.root + path)
            #expect(symlink("loop", machine.root + path) == 0)
            let folder = path.split(separator: "/").dropLast().joined(separator: "/")
            symlink("loop", machine.root + "/" + folder + "/loop")
        }
        machine.supply("BAT0", ["type": "Battery", "present": "1", "status": "Discharging"])
        machine.supply("AC", ["type": "Mains", "online": "0"])
        hide("/sys/class/power_supply/BAT0/type")
        let battery = try machine.read().onBattery
        #expect(battery.value == nil && battery.why?.contains("/sys/class/power_supply/BAT0/type: ") == true)
        machine.supply("AC", ["online": "1"])
        #expect(try machine.read().onBattery == .value(false), "it is fed, whatever the other is")

        machine.write("/sys/class/hwmon/hwmon0/name", "coretemp")
        machine.write("/sys/class/hwmon/hwmon0/temp1_input", "50000")
        hide("/sys/class/hwmon/hwmon0/temp1_input")
        let heat = try machine.read().temperature
        #expect(heat.value == nil && heat.why?.contains("temp1_input: ") == true, "\(heat)")

        machine.write("/proc/pressure/cpu", "some avg10=1.00 avg60=1.00 avg300=1.00 total=100")
        machine.write("/proc/self/task/7/schedstat", "1000 2000 5")
        machine.write("/proc/self/task/8/schedstat", "1000 2000 5")
        hide("/proc/self/task/8/schedstat")
        let load = try machine.read().othersLoad
        #expect(load.value == nil && load.why?.contains("/proc/self/task/8/schedstat: ") == true, "\(load)")
        // A thread that has ended is none that hides.
        unlink(machine.root + "/proc/self/task/8/schedstat")
        #expect(try machine.read().othersLoad.value != nil)
    }

    @Test func `heat is read by the driver's name, and what cannot be is not believed`() throws {
        let machine = FakeMachine()
        #expect(try machine.read().temperature.value == nil)
        machine.write("/sys/class/hwmon/hwmon0/name", "nvme")
        machine.write("/sys/class/hwmon/hwmon0/temp1_input", "90000")
        #expect(try machine.read().temperature.value == nil, "a disk is no processor")
        machine.write("/sys/class/hwmon/hwmon7/name", "k10temp")
        machine.write("/sys/class/hwmon/hwmon7/temp1_input", "255000")
        #expect(try machine.read().temperature.value == nil)
        machine.write("/sys/class/hwmon/hwmon7/temp1_input", "61250")
        machine.write("/sys/class/hwmon/hwmon7/temp3_input", "71500")
        #expect(try machine.read().temperature == .value(71.5))
        machine.write("/sys/class/hwmon/hwmon7/temp3_input", "")
        machine.write("/sys/class/thermal/thermal_zone3/type", "x86_pkg_temp")
        machine.write("/sys/class/thermal/thermal_zone3/temp", "64000")
        #expect(try machine.read().temperature == .value(64))
    }

    /// A thread of the lowest priority waits for as long as others compute: what is left of the pressure is nothing then.
    @Test func `others' load is seen although our own threads wait all the time`() throws {
        let machine = FakeMachine()
        let sensors = MachineSensors(root: machine.root)
        var seen: [Double?] = []
        for (second, running) in [9, 9, 9, 9, 9, 2, 3, 2, 2, 2].enumerated() {
            machine.write(
                "/proc/pressure/cpu",
                "some avg10=90.00 avg60=0.00 avg300=0.00 total=\(second * 900_000)\nfull avg10=0.00 total=0\n")
            machine.write("/proc/stat", "cpu 1 2\ncpu0 1 2\ncpu1 1 2\nprocs_running \(running)\nprocs_blocked 0\n")
            machine.write("/proc/self/task/100/schedstat", "5 \(second * 1_000_000_000) 7")
            machine.write("/proc/self/task/100/stat", "100 (a (b) c) R 1 1")
            seen.append(try machine.read(sensors, at: Double(second)).othersLoad.value)
        }
        #expect(seen[1...3].allSatisfy { $0 == 0 }, "one look says little: \(seen)")
        #expect(seen[4] == 1 && seen[5] == 0.8 && seen[6] == 0.6, "our own is not counted: \(seen)")
        #expect(seen[9] == 0, "\(seen)")
    }

    @Test func `others' load is the pressure less our own waiting`() throws {
        let machine = FakeMachine()
        #expect(try machine.read().othersLoad.why?.contains("/proc/pressure/cpu") == true)
        func look(_ total: Int, own: [Int]) {
            machine.write(
                "/proc/pressure/cpu",
                "some avg10=12.50 avg60=3.00 avg300=1.00 total=\(total)\nfull avg10=0 avg60=0 avg300=0 total=0")
            for (thread, wait) in own.enumerated() {
                machine.write("/proc/self/task/\(100 + thread)/schedstat", "5 \(wait) 7")
            }
        }
        let sensors = MachineSensors(root: machine.root)
        look(1_000_000, own: [0, 0])
        #expect(try machine.read(sensors, at: 10).othersLoad == .value(0.125), "before it had waited itself")
        look(1_800_000, own: [300_000_000, 200_000_000])
        let load = try #require(try machine.read(sensors, at: 11).othersLoad.value)
        #expect(abs(load - 0.3) < 1e-9)
        #expect(try machine.read(sensors, at: 11.1).othersLoad == .value(load), "too soon to say anything else")
        // All that waits are its own threads: it does not pause itself.
        look(2_800_000, own: [1_300_000_000, 1_200_000_000])
        #expect(try machine.read(sensors, at: 12).othersLoad == .value(0))
        machine.write("/proc/pressure/cpu", "")
        #expect(try machine.read(sensors, at: 13).othersLoad.value == nil)
    }

    @Test func `no bus is unknown, with the reason, and what no limit asks for is not read`() throws {
        let machine = FakeMachine()
        let readings = try machine.read()
        #expect(readings.userIdle == .unknown("there is no system bus") && readings.isMetered == readings.isMetered)
        #expect(readings.isMetered.why == "there is no system bus")
        var limits = OwnerLimits()
        for key in [LimitKey.onBattery, .metered] { try limits.set(key, to: "work") }
        let none = MachineSensors(root: machine.root).read(
            for: limits, moment: localMoment(secondsSince1970: 0), monthBytes: .value(ByteCount(0)), at: .zero)
        for why in [
            none.onBattery.why, none.userIdle.why, none.othersLoad.why, none.temperature.why, none.isMetered.why,
        ] {
            #expect(why == "no limit asks for it")
        }
    }

    @Test func `memory is the least of what is built in and what groups allow`() throws {
        let machine = FakeMachine()
        #expect(MachineMemory(root: machine.root).read().value == nil)
        machine.write("/proc/meminfo", "MemTotal:       16384000 kB\nMemFree: 1 kB")
        #expect(MachineMemory(root: machine.root).read() == .value(ByteCount(16_384_000 << 10)))
        machine.write("/proc/self/cgroup", "0::/user.slice/atoll.service")
        machine.write("/sys/fs/cgroup/user.slice/atoll.service/memory.max", "max")
        machine.write("/sys/fs/cgroup/user.slice/memory.max", "1073741824")
        #expect(MachineMemory(root: machine.root).read() == .value(ByteCount(1 << 30)), "its parent's limit is its own")
        machine.write("/proc/self/cgroup", "4:cpu,memory:/a/b\n0::/")
        machine.write("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "536870912")
        machine.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
        #expect(MachineMemory(root: machine.root).read() == .value(ByteCount(1 << 29)))
    }

    @Test func `the week begins on Monday`() throws {
        // Both are noon in London, a day and a half from any change of month; the zone moves them by less than a day.
        let thursday = localMoment(secondsSince1970: 1_763_640_000)
        let monday = localMoment(secondsSince1970: 1_763_985_600)
        #expect(
            (thursday.weekday + 4) % 7 == monday.weekday && thursday.minute == monday.minute
                && thursday.month == 202_511)
    }
}
