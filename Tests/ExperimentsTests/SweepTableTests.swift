import Experiments
import Testing

/// Results of points as one table, and parts of an experiment joined.
@Suite struct `The table of an experiment` {
    static func result(_ combination: Int, _ seed: UInt64, _ total: Double?, version: String = "1") -> SweepResult {
        SweepResult(
            point: "\(combination)-\(seed)-0123456789abcdef", combination: combination, sweep: "x", run: "plan",
            version: version, settings: [.init(key: "what_if", value: combination == 0 ? "none" : "a, \"b\"")],
            seed: seed,
            topology: .init(file: "t.yaml", sha256: "11", used: "22"),
            job: .init(file: "j.yaml", sha256: "33", used: "44"),
            measures: total.map { [.init("total", "s", $0)] } ?? [], failed: total == nil ? "nothing fits" : nil)
    }

    /// By hand: 1, 2, 4 have mean 7/3, standard error √(14/18), and t at two degrees of freedom is 4.3027.
    @Test func `has the mean over seeds and its 95 per cent interval beside each value`() {
        let table = SweepTable([
            Self.result(1, 1, nil), Self.result(0, 3, 4), Self.result(0, 1, 1), Self.result(0, 2, 2),
        ])
        let lines = table.csv.split(separator: "\n").map(String.init)
        #expect(
            lines[0]
                == "point,what_if,seed,measure,unit,value,seeds,mean,ci95_low,ci95_high,failed,topology_sha256,job_sha256,version"
        )
        #expect(lines.count == 5)
        let fields = lines[1].split(separator: ",", omittingEmptySubsequences: false)
        #expect(fields[1...6] == ["none", "1", "total", "s", "1.0", "3"])
        let margin = 4.3027 * (14.0 / 18).squareRoot()
        #expect(abs(Double(fields[7])! - 7.0 / 3) < 1e-12)
        #expect(abs(Double(fields[8])! - (7.0 / 3 - margin)) < 1e-9)
        #expect(abs(Double(fields[9])! - (7.0 / 3 + margin)) < 1e-9)
        // Quoted where it must be; no figures where there are none.
        #expect(lines[4].hasPrefix("1-1-0123456789ab,\"a, \"\"b\"\"\",1,,,,,,,,nothing fits,22,44,1"))
    }

    @Test func `has no interval for one seed`() {
        let spread = Spread([3])
        #expect(spread.mean == 3 && spread.margin == nil)
    }

    /// Of Student's t, two-sided 95 %, from tables: 2.0860 at 20, 2.0423 at 30, 1.9799 at 120 degrees of freedom.
    @Test(arguments: [(21, 2.0860), (31, 2.0423), (121, 1.9799)])
    func `takes the interval from Student's t`(count: Int, quantile: Double) {
        // Half at -1, half at 1, and one at 0: the standard error is 1 ÷ √count exactly.
        let values = [0.0] + (1..<count).map { $0 % 2 == 0 ? 1.0 : -1 }
        let spread = Spread(values)
        #expect(abs(spread.margin! * Double(count).squareRoot() - quantile) < 2e-4)
    }

    @Test func `joins parts in any order, also where they overlap`() throws {
        let all = (0..<2).flatMap { place in (1...3).map { Self.result(place, $0, Double(place) + Double($0)) } }
        let parts = [("b", [all[5], all[0], all[3]]), ("a", [all[1], all[2], all[4], all[5]])]
        let merged = try SweepTable(merging: parts.map { (name: $0.0, results: $0.1) })
        #expect(merged.csv == SweepTable(all).csv)
    }

    @Test func `refuses parts of different versions, files, experiments or figures by name`() {
        let one = [(name: "a", results: [Self.result(0, 1, 1)])]
        func refusal(_ change: (inout SweepResult) -> Void, seed: UInt64 = 2) -> String? {
            var other = Self.result(0, seed, 1)
            change(&other)
            do throws(SweepTable.Mismatch) {
                _ = try SweepTable(merging: one + [(name: "b", results: [other])])
                return nil
            } catch { return error.description }
        }
        #expect(refusal { _ in } == nil)
        #expect(refusal { $0.version = "2" } == "version is 1 in a, 2 in b")
        #expect(refusal { $0.sweep = "y" } == "experiment is x in a, y in b")
        #expect(refusal { $0.topology.sha256 = "99" }?.contains("topology t.yaml is not the same file") == true)
        #expect(refusal { $0.job.sha256 = "99" }?.contains("job j.yaml is not the same file") == true)
        #expect(refusal { $0.settings = [] }?.contains("points differ by what_if in a") == true)
        #expect(refusal({ $0.point = "z" }, seed: 1)?.contains("point 0 with seed 1 is another in a than in b") == true)
        #expect(refusal({ $0.measures[0].value = 2 }, seed: 1)?.contains("other figures in a than in b") == true)
    }
}
