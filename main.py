"""The program of a clone, `flags/program.py`; installed, it is `fastbat-tf`.

python main.py --method=fastbat --dataset=cifar10
"""

from flags import start

if __name__ == "__main__":
    start.run()
