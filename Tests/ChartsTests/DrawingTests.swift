import Charts
import Links
import Planning
import Primitives
import Testing
import Topologies

@Suite struct `A drawing` {
    static let topology = Topology(
        name: "pair <of> & \"two\"",
        hosts: ["a<1>", "b&2"].map {
            Host(name: $0, flops: 10e9, memory: .mebibytes(64), up: .megabits(50), down: .megabits(100))
        }, defaultLink: .init(latency: .milliseconds(20)))

    /// Every element that opens closes, and nothing but markup begins with `<`.
    static func check(_ svg: String) {
        var open: [Substring] = []
        var rest = svg[...]
        while let start = rest.firstIndex(of: "<") {
            guard let end = rest[start...].firstIndex(of: ">") else {
                Issue.record("a tag that does not end")
                return
            }
            let tag = rest[rest.index(after: start)..<end]
            rest = rest[rest.index(after: end)...]
            let name = tag.split(whereSeparator: { $0 == " " || $0 == "/" || $0 == "\n" }).first ?? ""
            #expect(["svg", "style", "rect", "text", "line", "circle", "polyline", "title"].contains(name), "<\(tag)>")
            if tag.hasPrefix("/") {
                #expect(open.popLast() == name)
            } else if !tag.hasSuffix("/") {
                open.append(name)
            }
        }
        #expect(open.isEmpty)
    }

    @Test func `of a map is whole, whatever hosts are called`() {
        Self.check(TopologyMap(Self.topology).svg)
    }

    @Test func `of a plan shows every peer, whatever hosts are called`() throws {
        let job = try JobManifest(
            parsing: """
                name: small
                model: {hidden_size: 64, layers: 4, heads: 4, intermediate_size: 128, context: 64}
                data: {path: none}
                train: {tokens: 200_000}
                parallel: {virtual_pipelines: 4, micro_batch: 2, pipelines: 1, stages: 2}
                """)
        let planned = try Planner.plan(topology: Self.topology, job: job, iterations: 50)
        let svg = PlanReport(planned, topology: Self.topology, job: job).ganttSVG
        Self.check(svg)
        #expect(svg.contains("a&lt;1&gt;") && svg.contains("b&amp;2"))
    }
}
