graph [ directed 0
  node [ id 0 label "n0" ]
  node [ id 1 label "n1" ]
  edge [ source 0 target 1 latency "10 ms" packet_loss 0.0 ]
]
