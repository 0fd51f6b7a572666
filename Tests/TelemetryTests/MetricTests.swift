import Primitives
import Telemetry
import Testing

@Suite struct `A page of metrics` {
    private static let families: [MetricFamily] = [
        .counter("atoll_sent_bytes", "Sent.", 12),
        .gauge(
            "atoll_loss_nats", "A \\ and a \"loss\".",
            [([.init("split", "train")], 2.5), ([.init("split", "validation")], .nan)]),
        .gauge("atoll_unknown", "Not known.", nil),
    ]

    @Test func `is what Prometheus reads`() {
        let expected = """
            # HELP atoll_sent_bytes_total Sent.
            # TYPE atoll_sent_bytes_total counter
            atoll_sent_bytes_total 12
            # HELP atoll_loss_nats A \\\\ and a "loss".
            # TYPE atoll_loss_nats gauge
            atoll_loss_nats{split="train"} 2.5
            atoll_loss_nats{split="validation"} NaN

            """
        #expect(MetricFamily.page(Self.families) == expected)
    }

    @Test func `is OpenMetrics for whoever asks for that`() {
        let expected = """
            # HELP atoll_sent_bytes Sent.
            # TYPE atoll_sent_bytes counter
            atoll_sent_bytes_total 12
            # HELP atoll_loss_nats A \\\\ and a \\"loss\\".
            # TYPE atoll_loss_nats gauge
            atoll_loss_nats{split="train"} 2.5
            atoll_loss_nats{split="validation"} NaN
            # EOF

            """
        let format = MetricFamily.Format(accept: "application/OpenMetrics-text; version=1.0.0, text/plain;q=0.5")
        #expect(MetricFamily.page(Self.families, format) == expected)
        #expect(MetricFamily.Format(accept: nil).contentType == "text/plain; version=0.0.4; charset=utf-8")
    }

    @Test func `says of a histogram how much was at most how much`() {
        var histogram = Histogram(bounds: [0.5, 2])
        for value in [0.25, 0.5, 1, 8, .nan] { histogram.append(value) }
        let page = MetricFamily.page([.histogram("atoll_round_seconds", "Rounds.", histogram)])
        let lines = page.split(separator: "\n").dropFirst(2).map(String.init)
        #expect(
            lines == [
                "atoll_round_seconds_bucket{le=\"0.5\"} 2", "atoll_round_seconds_bucket{le=\"2\"} 3",
                "atoll_round_seconds_bucket{le=\"+Inf\"} 4", "atoll_round_seconds_sum 9.75",
                "atoll_round_seconds_count 4",
            ])
        #expect(MetricFamily.page([.histogram("atoll_none", "None.", Histogram(bounds: [1]))]) == "")
    }

    @Test func `stays readable and small whatever others call themselves`() {
        let names =
            ["ev\u{1b}[2Jil\n\"}", "ev[2Jil \"}", String(repeating: "long", count: 100)]
            + (0..<1000).map { "peer \($0)" }
        let page = MetricFamily.page([.gauge("atoll_x", "X.", names.map { ([.init("peer", $0)], 1) })])
        let lines = page.split(separator: "\n").dropFirst(2)
        #expect(lines.count == MetricFamily.seriesMost)
        #expect(Set(lines).count == lines.count)
        #expect(lines.first == "atoll_x{peer=\"ev[2Jil \\\"}\"} 1")
        #expect(lines.allSatisfy { $0.utf8.count < 256 })
        #expect(!page.unicodeScalars.contains { $0 != "\n" && isDangerous($0) })
    }

    /// A job of four rounds of which one was undone.
    private static var job: JobView {
        var view = JobView()
        var seconds = 0.0
        func tell(_ what: Happening, peer: String = "") {
            seconds += 1
            view.apply(Event(what, at: Instant(seconds: seconds), peer: peer))
        }
        func seal(_ round: Int) {
            tell(
                .roundSealed(
                    round: round, steps: (round + 1) * 4, tokens: (round + 1) * 512, trainLoss: 5 / Double(round + 1),
                    validationLoss: round == 2 ? 5.5 : nil, pipelines: 1, seconds: 2, predictedSeconds: 1.5))
        }
        tell(.jobOpened(job: "ab12", nonce: "1"))
        tell(.peerJoined, peer: "ada")
        tell(.peerDeclined(why: "no"), peer: "bea")
        tell(
            .planned(
                epoch: 1, pipelines: 1, stages: 1, innerSteps: 4, codec: "int8", activations: "bf16",
                exchange: "all-gather", stepSeconds: 0.5, totalSeconds: 20))
        seal(0)
        seal(1)
        tell(.rolledBack(round: 1, from: 2, why: "a test"))
        seal(1)
        seal(2)
        return view
    }

    @Test func `tells a job as its events do`() {
        let page = MetricFamily.page(Self.job.metrics(at: Instant(seconds: 9)))
        let lines = Set(page.split(separator: "\n").map(String.init))
        for line in [
            "atoll_job_info{job=\"ab12\"} 1", "atoll_job_stage{stage=\"training\"} 1",
            "atoll_job_stage{stage=\"gathering\"} 0", "atoll_job_round 3", "atoll_job_step 12", "atoll_job_tokens 1536",
            "atoll_loss_nats{split=\"train\"} \(5.0 / 3)", "atoll_loss_nats{split=\"validation\"} 5.5",
            "atoll_round_seconds_count 4", "atoll_round_seconds_sum 8", "atoll_round_predicted_seconds 1.5",
            "atoll_job_peers{standing=\"joined\"} 1", "atoll_job_peers{standing=\"declined\"} 1",
            "atoll_job_peers_lost_total 0", "atoll_events_total{kind=\"round_sealed\"} 4",
            "atoll_events_total{kind=\"rolled_back\"} 1", "atoll_job_steps_planned 40",
        ] { #expect(lines.contains(line), "\(line)") }
        // What nobody has told is not 0.
        #expect(!page.contains("atoll_job_sent_bytes") && !page.contains("atoll_critical_batch"))
        #expect(MetricFamily.page(JobView().metrics(at: .zero)) == "")
        // A family comes once, and with a description.
        let names = page.split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }
        #expect(
            Set(names).count == names.count
                && page.split(separator: "\n").filter { $0.hasPrefix("# HELP ") }.count == names.count)
    }

    @Test func `has rows and curves for rounds`() {
        let rounds = Self.job.rounds.items
        let rows = rounds.map { RoundTable.row($0, since: Instant(seconds: 1)) }
        #expect(RoundTable.header.split(separator: ",").count == 12)
        #expect(rows.allSatisfy { $0.split(separator: ",", omittingEmptySubsequences: false).count == 12 })
        #expect(rows[0] == "0,4,512,5.0,,2.0,1.5,1,1,0,,4.000\n")
        #expect(rows.map { $0.prefix(1) } == ["0", "1", "1", "2"])
        let last = rounds[3].scalars
        #expect(last.first { $0.tag == "loss/validation" } == Scalar(tag: "loss/validation", step: 8, value: 5.5))
        #expect(last.first { $0.tag == "round/tokens_per_second" }?.value == 256)
        #expect(last.filter { $0.tag != "loss/validation" }.allSatisfy { $0.step == 12 })
        #expect(!rounds[0].scalars.contains { $0.tag == "loss/validation" })
    }
}
