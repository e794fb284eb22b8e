"""For child processes of tests: who polls an emulator need not wait as long as for AWS.

Chalice looks every five seconds whether a function is there, and CloudFormation's state is asked
for every two.
"""

import time

sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.1))
