import Links
import Primitives
import Testing
import Topologies

@Suite struct `A record of a run` {
    static let record = RunRecord(
        job: "kjv tiny", steps: 147, rounds: 30, innerSteps: 5,
        predicted: RunRecord.Figures(stepSeconds: 0.65, roundSeconds: 3.25, totalSeconds: 96, sentBytes: 4.25e8),
        measured: RunRecord.Figures(stepSeconds: 0.7, totalSeconds: 105.2), recoverySeconds: [4.125, 0],
        plan: RecordedPlan(
            pipelines: [
                RecordedPlan.Pipeline(
                    stages: [
                        RecordedPlan.Stage(host: "a", units: 0..<3),
                        RecordedPlan.Stage(host: "b", units: 3..<7, recompute: true),
                    ], share: 8, inFlight: 3)
            ], innerSteps: 5, microBatches: 2, delay: 1, codec: "sparse:k=64", activations: "int8",
            outerLearningRate: 0.7,
            outerMomentum: 0.9))
    static let topology = Topology(
        name: "record", about: "A pool.", expectation: "The same.",
        hosts: ["a", "b"].map {
            Host(name: $0, flops: 3e9, memory: .mebibytes(64), up: .megabits(5), down: .megabits(50))
        }, defaultLink: LinkProperties(latency: .milliseconds(7)),
        faults: [Fault(.kill, at: .progress(0.5), host: "b")], record: record)

    @Test func `is written with its topology and reads back equal`() throws {
        let text = Self.topology.text
        #expect(try Topology(parsing: text) == Self.topology)
        #expect(try Topology(parsing: text).text == text)
        #expect(text.contains("recovery_s: [4.125, 0]"))
    }

    @Test(arguments: [
        ("  steps: 147", "  steps: many", "record.steps"),
        ("  inner_steps: 5", "  inner_steps: 0", "record.inner_steps"),
        ("step_s: 0.65", "step_s: -1", "record.predicted.step_s"),
        ("step_s: 0.7", "stop_s: 0.7", "record.measured.stop_s"),
        ("[4.125, 0]", "[4.125, nan]", "record.recovery_s[1]"), ("  rounds: 30\n", "", "record.rounds"),
        ("  job: \"kjv tiny\"", "  jab: x", "record.jab"),
        ("units: [3, 7]", "units: [7, 3]", "record.plan.pipelines[0].stages[1].units"),
        ("units: [0, 3]", "units: [0]", "record.plan.pipelines[0].stages[0].units"),
        ("in_flight: 3", "in_flight: 0", "record.plan.pipelines[0].in_flight"),
        ("    delay: 1", "    delay: -1", "record.plan.delay"),
    ])
    func `that is wrong is refused by file, line and key`(found: String, put: String, key: String) throws {
        let text = Self.topology.text
        #expect(text.contains(found))
        let failure = try #require(TopologyFileFailure.of(text.replacing(found, with: put)))
        #expect(failure.key == key)
        #expect(failure.file == "t.yaml" && failure.line != nil)
    }

    @Test func `that is cut off anywhere is refused or read, and never more than it says`() throws {
        let bytes = Array(Self.topology.text.utf8)
        for length in stride(from: 0, to: bytes.count, by: 3) {
            guard let read = try? Topology(parsing: Array(bytes.prefix(length)), file: "t.yaml") else { continue }
            #expect(read.hosts.count <= 2 && (read.record?.recoverySeconds.count ?? 0) <= 2)
        }
    }
}

enum TopologyFileFailure {
    static func of(_ text: String) -> FileProblem? {
        do throws(FileProblem) {
            _ = try Topology(parsing: text, file: "t.yaml")
            return nil
        } catch { return error }
    }
}
