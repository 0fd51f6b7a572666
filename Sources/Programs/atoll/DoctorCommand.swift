import ArgumentParser
import Coordination
import Foundation
import Kernels
import Lending
import Node
import Pools
import Primitives
import Record
import Telemetry

/// `atoll doctor`: whether this machine is fit to lend, and what is wrong.
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Whether this machine is fit to be a peer: what is well, what is not, and what to do.",
        discussion: """
            Every line has a code; `atoll help CODE` says what it means and what to do. Exit codes: 0 healthy (warnings, and what cannot be looked at, \
            do not count), 1 something fails, 2 usage.
            """, subcommands: [All.self, Net.self], defaultSubcommand: All.self)

    struct All: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "all", abstract: "Everything.")
        @OptionGroup var options: DoctorOptions

        func run() throws {
            let all = Doctor(try options.scene()).examine()
            if options.json { print(options.object(all)) } else { options.tell(all) }
            if !Doctor.isHealthy(all) { throw ExitCode(1) }
        }
    }

    /// What is looked at, and how it is said.
    struct DoctorOptions: ParsableArguments {
        @Option(help: "The peer's folder (default: the first under ATOLL_HOME).") var data: String?
        @Option(help: "The invite that it is to join with.") var invite: String?
        @Option(help: "Where it is to listen.") var listen: String?
        @Option(help: "The owner's file, in the place of peer.yaml.") var config: String?
        @Flag(help: "One JSON object (docs/DOCTOR.md).") var json = false
        @Flag(help: "What is well, too.") var verbose = false

        func scene() throws -> Doctor.Scene {
            // One folder may be named in several ways.
            func resolved(_ path: String) -> String {
                guard let real = realpath(path, nil) else { return path }
                defer { free(real) }
                return String(cString: real)
            }
            let folder = resolved(data ?? Home.path + "/peer")
            var scene = Doctor.Scene(folder: folder, parse: JobParameters.init(manifest:))
            let names = ((try? FileManager.default.contentsOfDirectory(atPath: Home.path)) ?? []).sorted()
            scene.beside = names.map { resolved(Home.path + "/" + $0) }.filter { $0 != folder }
            scene.invite = invite
            scene.listen = try listen.map { try endpoint($0, option: "--listen") }
            scene.machine.sensors = ProcessInfo.processInfo.environment["ATOLL_SENSORS_ROOT"] ?? ""
            do throws(NodeError) {
                let owner = try OwnersWord(
                    folder: folder, config: config, flags: [], threads: nil, memory: nil, sensors: scene.machine.sensors
                )
                scene.limits = .success(owner.limits)
                scene.accepts = owner.accept.count
            } catch { scene.limits = .failure(error) }
            for place in [folder] + scene.beside
            where FileManager.default.fileExists(atPath: place + "/" + ControlService.file) {
                do throws(NodeError) {
                    // A socket that nobody listens at is what an ended process left behind.
                    if let found = try ControlService.ask(.status, in: place) {
                        scene.daemons.append((place, found.answer.status))
                        if try wasRemoved(place) { scene.removed.insert(place) }
                    }
                } catch { scene.daemons.append((place, nil)) }
            }
            scene.machine.isClockKept = Self.isClockKept
            scene.machine.mayBeIdle = Self.mayBeIdle
            scene.machine.computesRight = Self.computesRight
            return scene
        }

        /// Whether the last that others said of the membership of a daemon is that it was removed.
        private func wasRemoved(_ folder: String) throws(NodeError) -> Bool {
            let told = try ControlService.ask(.init(.why, about: "connection_refused|connection_made"), in: folder)
            guard let last = told?.answer.events?.last.flatMap({ Event(json: $0.json) }) else { return false }
            if case .connectionRefused(let why, _) = last.what { return why == PoolRefusal.removed.toItself }
            return false
        }

        func tell(_ all: [Diagnosis]) {
            let terminal = TerminalText.current
            for one in all where verbose || one.state != .ok {
                func padded(_ text: String, _ width: Int) -> String {
                    text + String(repeating: " ", count: max(1, width - text.count))
                }
                let head = padded(one.state.rawValue, 8) + padded(one.code.rawValue, 9)
                let said = TerminalText.punctuated(one.found + "." + (one.remedy.map { " Try: \($0)." } ?? ""))
                let lines = terminal.hanging(head, said)
                for line in lines { print(one.state == .fail ? terminal.bold(line) : line) }
            }
            func count(_ state: Diagnosis.State) -> Int { all.count { $0.state == state } }
            print(
                "\(count(.ok)) ok, \(counted(count(.warn), "warning")), \(count(.fail)) failed, \(count(.unknown)) unknown"
                    + (all.first { $0.state == .fail } ?? all.first { $0.state == .warn }).map {
                        " · atoll help \($0.code.rawValue)"
                    }.unwrapped)
        }
        /// - Parameter line: what `atoll doctor net` has found out, too.
        func object(_ all: [Diagnosis], line: LineReport? = nil) -> String {
            struct Findings: Encodable {
                struct One: Encodable {
                    var code: String
                    var state: String
                    /// What the code says where something is wrong.
                    var title: String?
                    var found: String
                    var remedy: String?
                }
                var healthy: Bool
                var findings: [One]
                var line: LineReport?
            }
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            let findings = Findings(
                healthy: Doctor.isHealthy(all),
                findings: all.map {
                    .init(
                        code: $0.code.rawValue, state: $0.state.rawValue,
                        title: $0.state == .warn || $0.state == .fail ? $0.code.title : nil, found: $0.found,
                        remedy: $0.remedy)
                }, line: line)
            return (try? encoder.encode(findings)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
        }

        // MARK: what only the system knows

        /// adjtimex(2): nobody disciplines the clock while STA_UNSYNC is set. The importer leaves its header out, so the function is looked up, and the
        /// word `status` read where the structure has it.
        private static var isClockKept: Bool? {
            typealias Adjust = @convention(c) (UnsafeMutableRawPointer) -> Int32
            guard let adjust = dlsym(nil, "adjtimex").map({ unsafeBitCast($0, to: Adjust.self) }) else { return nil }
            var timex = [UInt64](repeating: 0, count: 64)
            return timex.withUnsafeMutableBytes { bytes in
                guard adjust(bytes.baseAddress!) >= 0 else { return nil }
                let unsynchronized: Int32 = 0x40
                return bytes.load(fromByteOffset: 40, as: Int32.self) & unsynchronized == 0
            }
        }
        /// Tried in a thread that ends at once.
        private static var mayBeIdle: Bool {
            var thread = pthread_t()
            let made = pthread_create(
                &thread, nil,
                { _ in
                    var parameters = sched_param()
                    // SCHED_IDLE, which the importer leaves out.
                    return UnsafeMutableRawPointer(bitPattern: sched_setscheduler(0, 5, &parameters) == 0 ? 1 : 0)
                }, nil)
            guard made == 0 else { return false }
            var result: UnsafeMutableRawPointer?
            pthread_join(thread, &result)
            return result != nil
        }
        /// One product with each instruction set that this processor has, against its definition, bit for bit.
        private static var computesRight: Bool {
            let (m, n, k) = (37, 53, 211)
            var generator = SeededGenerator(seed: 16)
            func draw(_ count: Int) -> [Float] {
                (0..<count).map { _ in Float(generator.below(2_000_001)) / 1_000_000 - 1 }
            }
            let (a, b) = (draw(m * k), draw(k * n))
            var naive = [Float](repeating: 0, count: m * n)
            kernels_sgemm_naive(m, n, k, a, k, 1, b, n, 1, &naive, n, false)
            defer { _ = kernels_set_instruction_set(KERNELS_AUTO) }
            for set in [KERNELS_SCALAR, KERNELS_AVX2, KERNELS_AVX512, KERNELS_NEON]
            where kernels_set_instruction_set(set) {
                var product = [Float](repeating: 0, count: m * n)
                kernels_sgemm(m, n, k, a, k, 1, b, n, 1, &product, n, false, 1)
                guard product.map(\.bitPattern) == naive.map(\.bitPattern) else { return false }
            }
            return true
        }
    }
}

extension String? {
    fileprivate var unwrapped: String { self ?? "" }
}
